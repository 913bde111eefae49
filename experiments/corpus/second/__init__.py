"""Rules as they stand in repositories: einsums, dictionaries of weights, helpers, scans, vmap, long statements.

Written without looking at the search for mistakes and without running it: how well that does here is how well it does
on rules it has not seen. They rely on JAX's defaults, which promote ranks and dtypes.
"""
