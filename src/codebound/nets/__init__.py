"""Networks: encoders and decoders."""
