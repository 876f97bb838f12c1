"""Do all codewords get used, and what does it buy? Quantizers at K = 256 to 65,536 on photograph crops (rows B2–B6)."""
