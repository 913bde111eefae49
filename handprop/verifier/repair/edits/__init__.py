"""Edits that may mend a refuted gradient."""
