"""Training loops, shuffling and checkpoints."""
