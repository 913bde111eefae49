"""Programs as JAX writes them: their equations, their constants, and how they are run."""
