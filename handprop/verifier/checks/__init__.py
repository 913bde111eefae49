"""The checks that a verdict rests on, and the modules that they share."""
