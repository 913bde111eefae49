"""Random programs, random identities, random mistakes: what ``fuzz_verdicts.py`` asks the verifier about.

Everything is drawn from a seed and an index, so that any pair can be made again.
"""
