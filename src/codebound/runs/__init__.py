"""The application around one training: folder, settings, model, figures, report."""
