"""Calls of custom rules that public libraries ship: only calls, no code of the libraries.

One module per library, or per few small ones, with a tuple ``CALLS``. ``experiments/public_rules.py`` has the verifier
judge each of them, and ``truth.py`` says from differences of the values whether a rule is the derivative.
"""
