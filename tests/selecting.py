"""Which checks a test asks for."""

from handprop.verifier.checks.registry import CHECKS

__all__ = ["all_but"]


def all_but(*names: str) -> tuple[str, ...]:
    """What ``skip`` takes so that only these checks run, and no search for mistakes."""
    return ("repair", *(name for name, _ in CHECKS if name not in names))
