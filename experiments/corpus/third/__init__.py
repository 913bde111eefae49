"""More rules as they stand in repositories, none of them in the other parts: nested dictionaries, NamedTuples, helpers
called from both passes, reverse scans, ``vmap`` and ``jit`` inside, ``matmul`` and ``tensordot``, keyword arguments.

Written without reading or running the search for mistakes, after it had been run on the second part. They rely on JAX's
defaults, which promote ranks and dtypes.
"""
