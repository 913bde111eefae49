"""Locating the mistake in a refuted gradient."""
