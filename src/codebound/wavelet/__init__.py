"""Pictures as wavelet coefficients: an overlapped transform, integer levels, and probabilities of a small network.

Nothing here imports PyTorch, and whatever a decoder does is done in whole numbers: docs/picture-format.md.
"""
