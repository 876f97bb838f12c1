"""Runs of the image tokenizer: settings, training, evaluation, report."""
