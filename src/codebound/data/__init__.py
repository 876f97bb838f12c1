"""Samples to quantize: a source with known optimum, photographs, and the user's own vectors."""
