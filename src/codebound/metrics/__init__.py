"""Measurements, each defined once."""
