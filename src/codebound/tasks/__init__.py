"""What can be trained: each file is a model family as a task of the engine."""
