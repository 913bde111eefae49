"""Wrong gradients that people reported in public, each rebuilt as a small program beside the right one."""

from corpus.reported_networks import NETWORKS
from corpus.reported_rules import RULES, Reported

__all__ = ["Reported", "reported"]


def reported() -> tuple[Reported, ...]:
    """Every reported gradient: custom rules, then plain gradient functions."""
    return tuple(build() for build in (*RULES, *NETWORKS))
