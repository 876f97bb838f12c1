"""codebound: vector quantization where every number stands next to its limit."""
