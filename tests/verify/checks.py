"""Which checks a test asks for."""

from handprop.verify.rungs import RUNGS

__all__ = ["all_but"]


def all_but(*names: str) -> tuple[str, ...]:
    """What ``skip`` takes so that only these checks run, and no search for mistakes."""
    return ("mistakes", *(name for name, _ in RUNGS if name not in names))
