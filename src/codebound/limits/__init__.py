"""How well any codebook can do: what `codebound limits` computes and prints."""
