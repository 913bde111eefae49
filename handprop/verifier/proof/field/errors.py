"""Why a program is not proved: exceptions for what the proof cannot interpret."""

__all__ = ["NeedsBranches", "NoSquare", "NotUnderstood", "OutOfWork", "UnknownLength", "Unsupported"]


class Unsupported(Exception):
    """The program contains something that the proof cannot interpret; the message names it."""


class NeedsBranches(Unsupported):
    """Truth values have to be decided for this program; it is not enough to read it as a polynomial in them."""


class UnknownLength(NeedsBranches):
    """A loop runs as long as the inputs decide."""


class NotUnderstood(Unsupported):
    """An operation cannot be interpreted even as an unknown function of its operands, and nothing that depends on it is
    proved."""


class NoSquare(NotUnderstood):
    """The prime is discarded: a number under a root is no square modulo it."""


class OutOfWork(NotUnderstood):
    """The work limit or the deadline is reached before the proof is finished."""
