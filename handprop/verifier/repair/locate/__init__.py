"""Where a refuted gradient is wrong."""
