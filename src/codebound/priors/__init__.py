"""What a grid of indices will be: probabilities from what is already known of it, in exact integers."""
