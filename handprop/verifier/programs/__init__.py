"""Programs as JAX writes them."""
