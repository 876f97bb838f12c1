"""Bytes: exact integer probabilities, the range coder, the container of a `.cbd` file."""
