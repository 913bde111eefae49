"""The checks that a verdict rests on, and what several of them use."""
