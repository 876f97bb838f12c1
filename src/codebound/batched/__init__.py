"""Many small models trained at once, for the studies: codebooks, linear and MLP autoencoders."""
