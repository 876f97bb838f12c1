"""Whole models: an encoder, a quantizer, a decoder."""
