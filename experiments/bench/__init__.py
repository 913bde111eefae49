"""Training steps of handprop and its peers, timed by turns in one run: ``scripts/bench``."""
