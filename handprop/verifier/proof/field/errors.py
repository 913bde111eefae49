"""Why a program is not proved: what the theory cannot read."""

__all__ = ["NeedsBranches", "NotUnderstood", "OutOfWork", "Unsupported"]


class Unsupported(Exception):
    """The program holds what this theory cannot read; the message says what."""


class NeedsBranches(Unsupported):
    """Truth values have to be decided for this program: polynomials in them are not enough."""


class NotUnderstood(Unsupported):
    """Not even as a function of its operands that is not known: nothing that rests on it is proved."""


class OutOfWork(NotUnderstood):
    """The work that there is to do is done, or the time is up."""
