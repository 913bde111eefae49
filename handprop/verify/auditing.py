"""Every custom rule that a whole program meets, each verified at the shapes it is used with."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.core import Tracer

from handprop.verify.report import Report, Verdict

__all__ = ["Audit", "met_while_tracing"]


@dataclasses.dataclass(frozen=True)
class Audit:
    """One report for each rule and shape, by the rule's name and line; ``trusted`` names JAX's own rules met."""

    reports: tuple[Report, ...]
    trusted: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """All proved or verified."""
        return all(report.ok for report in self.reports)

    @property
    def verdict(self) -> Verdict:
        """The worst of the verdicts; PROVED where no rule was met."""
        order = (Verdict.REFUTED, Verdict.INCONCLUSIVE, Verdict.VERIFIED, Verdict.PROVED)
        return next((v for v in order if any(report.verdict is v for report in self.reports)), Verdict.PROVED)

    def raise_if_refuted(self) -> "Audit":
        for report in self.reports:
            report.raise_if_refuted()
        return self

    def __str__(self) -> str:
        rows = [f"{report.verdict.name:<13} {report.subject}  {_place(report)}" for report in self.reports]
        rows = rows or ["no custom rule was met besides JAX's own"]
        return "\n".join([*rows, *([f"trusted: {', '.join(self.trusted)}"] if self.trusted else [])])


def _place(report: Report) -> str:
    return str(report.certificate.get("source", ""))


def met_while_tracing(step: Callable, args: tuple) -> tuple[list[tuple[Any, tuple, dict]], tuple[str, ...]]:
    """The rules called while ``step(*args)`` is traced, with their arguments as shapes, each once; and JAX's own.

    JAX's caches are cleared first: a jitted function that was traced before would not call its rules again.
    """
    met: dict[Any, tuple[Any, tuple, dict]] = {}
    trusted: set[str] = set()

    def seen(rule: Any, args: tuple, kwargs: dict) -> None:
        name = getattr(rule, "__name__", type(rule).__name__)
        if (getattr(rule.__wrapped__, "__module__", "") or "").split(".")[0] == "jax":
            trusted.add(name)
            return
        shapes = jax.tree.map(_as_shape, (args, kwargs))
        met.setdefault((id(rule), str(shapes)), (rule, *shapes))

    jax.clear_caches()
    with _calls_of(jax.custom_vjp, seen), _calls_of(jax.custom_jvp, seen):
        jax.eval_shape(step, *args)
    return list(met.values()), tuple(sorted(trusted))


def _as_shape(x: Any) -> Any:
    """Concrete integers, which may be indices or keys, stay; other arrays become shapes."""
    if isinstance(x, Tracer):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)
    return x


@contextlib.contextmanager
def _calls_of(kind: Any, seen: Callable[[Any, tuple, dict], None]) -> Iterator[None]:
    call = kind.__call__

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen(self, args, kwargs)
        return call(self, *args, **kwargs)

    kind.__call__ = noted
    try:
        yield
    finally:
        kind.__call__ = call
