"""How codewords live and die: simulation beside theory."""
