"""Is a codebook initialisation good? Answered against theory, on synthetic and on real data (mission rows A1–A12)."""
