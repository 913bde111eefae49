"""What is wrong with a refuted gradient: the line, the mistake in words, and an edit that is proved to mend it."""

from handprop.verify.mistakes.explain import explain

__all__ = ["explain"]
