"""Edits that may fix a refuted gradient."""
