"""Rules as they stand in repositories: einsums, dictionaries of weights, helpers, scans, vmap, several lines a statement.

Written after the search for mistakes and without looking at it: how well that does here is how well it does on rules it
has not seen. They rely on JAX's defaults, which promote ranks and dtypes.
"""
