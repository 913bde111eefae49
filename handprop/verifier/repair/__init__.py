"""What is wrong with a refuted gradient: the line, the mistake in words, and an edit that is proved to mend it."""
