"""What a trained model reaches on data that it has not seen."""
