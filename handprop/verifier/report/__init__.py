"""Reports: the result of a verification as values, text and JSON."""
