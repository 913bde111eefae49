"""For a refuted gradient: the wrong line, the mistake in words, and an edit that is proved to fix it."""
