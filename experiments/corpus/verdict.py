"""handprop's report of a rule of the corpus."""

from typing import Any

import handprop
from corpus.rule import Rule
from handprop.verifier import Report

__all__ = ["report_of"]


def report_of(rule: Rule, args: tuple, **options: Any) -> Report:
    """``handprop.verify`` of the rule, or ``verify_gradient`` of a plain gradient; ``options`` as theirs."""
    if rule.loss is None:
        return handprop.verify(rule.function, *args, **options)
    return handprop.verify_gradient(rule.function, rule.loss, *args, argnums=rule.argnums, **options)
