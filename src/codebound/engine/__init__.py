"""The engine: one training loop for every model, with exact resume."""
