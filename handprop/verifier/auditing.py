"""Find every custom rule that a program calls, with the values that reached it.

The program runs once, on copies of its arguments. At each call of a rule, a callback hands out the rule's arguments, so
that their values are known inside compiled functions, loops and derivatives too; of a batch, the first example is kept.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from handprop.verifier.arguments import Arguments, Unusable, arguments
from handprop.verifier.internal import noted, said
from handprop.verifier.report.report import Report
from handprop.verifier.report.values import Verdict
from handprop.verifier.rules import each_call, is_of_jax, marked, name_of

__all__ = ["Audit", "Met", "Rule", "is_audit", "rules_met"]

FORMAT = "handprop.audit.v2"
NO_VALUES = "no values reached {}, because {}; it was judged at random ones"


@dataclasses.dataclass(frozen=True)
class Audit:
    """One report for each rule and shape, with the rule's name and line.

    ``trusted`` names JAX's own rules that were called. ``unseen`` says which rules were judged at random values, and
    why. ``certificate`` holds plain values that repeat the audit, such as the command that made it.
    """

    reports: tuple[Report, ...]
    trusted: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    certificate: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are reports, and all are proved or verified."""
        return bool(self.reports) and all(report.ok for report in self.reports)

    @property
    def verdict(self) -> Verdict:
        """The worst of the verdicts; INCONCLUSIVE if no rule was called, because then nothing was shown."""
        order = (Verdict.REFUTED, Verdict.INCONCLUSIVE, Verdict.VERIFIED, Verdict.PROVED)
        return next((v for v in order if any(r.verdict is v for r in self.reports)), Verdict.INCONCLUSIVE)

    def raise_if_refuted(self) -> "Audit":
        for report in self.reports:
            report.raise_if_refuted()
        return self

    def to_json(self) -> str:
        """Return all reports as JSON text; arrays keep every bit."""
        reports = [json.loads(report.to_json()) for report in self.reports]
        kept = {"format": FORMAT, "certificate": self.certificate, "trusted": self.trusted, "unseen": self.unseen}
        return json.dumps({**kept, "reports": reports}, indent=1)

    @staticmethod
    def from_json(text: str) -> "Audit":
        """Return the audit that ``to_json`` wrote; raise ValueError, in one sentence, if the text is not one."""
        try:
            held = json.loads(text)
            if not isinstance(held, dict) or held.get("format") != FORMAT:
                raise ValueError(f'its "format" is not {FORMAT!r}')
            reports = tuple(Report.from_json(json.dumps(report)) for report in held["reports"])
            trusted, unseen = (tuple(map(str, held[name])) for name in ("trusted", "unseen"))
            return Audit(reports, trusted, unseen, dict(held["certificate"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a handprop audit: {str(error) or type(error).__name__}") from error

    def __str__(self) -> str:
        rows = [f"{report.verdict.name:<13} {report.subject}  {_place(report)}" for report in self.reports]
        rows = rows or ["INCONCLUSIVE  no custom rule besides JAX's own was called"]
        trusted = [f"trusted: {', '.join(self.trusted)}"] if self.trusted else []
        return "\n".join([*rows, *self.unseen, *trusted])


def is_audit(text: str) -> bool:
    """Whether the text is JSON whose field ``format`` says that it is an audit; its other fields are not read."""
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(held, dict) and held.get("format") == FORMAT


def _place(report: Report) -> str:
    return str(report.certificate.get("source", ""))


@dataclasses.dataclass
class Rule:
    """A rule as it was called.

    ``held`` are its arguments with arrays drawn at random, ``specs`` are the shapes of the arrays or the kinds of keys,
    and ``values`` are the first arrays that reached it, preferably finite ones; None if none did.
    """

    rule: Any
    held: Arguments
    specs: tuple[Any, ...]
    values: tuple[Any, ...] | None = None

    def note(self, *values: Any) -> None:
        if self.values is None or (not _finite(self.values) and _finite(values)):
            self.values = tuple(np.array(value) for value in values)

    def call(self) -> tuple[tuple, dict]:
        """Return the arguments with which to verify the rule."""
        return self.held.rebuild(self.held.leaves if self.values is None else self._as_given(self.values))

    def _as_given(self, values: tuple[Any, ...]) -> list[Any]:
        return [_as_given(value, spec) for value, spec in zip(values, self.specs, strict=True)]


@dataclasses.dataclass
class Met:
    """The rules that a program called, by what tells their calls apart, and the names of JAX's own.

    ``why`` is the reason why values are missing, if they are.
    """

    rules: dict[Any, Rule] = dataclasses.field(default_factory=dict)
    trusted: set[str] = dataclasses.field(default_factory=set)
    why: str = "its branch was not taken"

    def unseen(self) -> tuple[str, ...]:
        return tuple(NO_VALUES.format(name_of(r.rule), self.why) for r in self.rules.values() if r.values is None)


def rules_met(step: Callable, args: tuple, rng: np.random.Generator) -> Met:
    """Return the rules that are called while ``step(*args)`` runs, with values that reached them.

    Raises:
        Unusable: ``step`` raises at these arguments.
    """
    given = arguments(args, {}, (), rng, step)
    met = Met()
    try:
        with marked(anew=True), each_call(lambda *call: _handed_out(met, *call)):
            jax.block_until_ready(given.calling(step)(*map(_copied, given.leaves)))
        jax.effects_barrier()
    except Exception as error:
        _check_runs(step, given)
        noted(error, "the search for values")
        met.why = f"the program fails when they are read ({said(error)})"
        with marked(anew=True), each_call(lambda *call: _traced(met, *call)):
            jax.eval_shape(given.calling(step), *given.leaves)
    return met


def _copied(x: Any) -> Any:
    """Copy an array, because the program may overwrite its arguments."""
    return jnp.array(x, copy=True) if isinstance(x, jax.Array) and not _is_key(x) else x


def _check_runs(step: Callable, given: Arguments) -> None:
    """Raise Unusable if the program itself raises."""
    try:
        jax.block_until_ready(given.calling(step)(*map(_copied, given.leaves)))
        jax.effects_barrier()
    except Exception as error:
        if noted(error, "the search for values"):
            return
        raise Unusable(f"{name_of(step)} raises at the given arguments: {said(error)}") from error


def _traced(met: Met, rule: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
    """Record the shapes of a call, then make the call."""
    if is_of_jax(rule):
        met.trusted.add(name_of(rule))
    else:
        _noted(met, rule, args, kwargs)
    return call(rule, *args, **kwargs)


def _handed_out(met: Met, rule: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
    """Record a call, with its values if they are available, then make the call."""
    if is_of_jax(rule):
        met.trusted.add(name_of(rule))
        return call(rule, *args, **kwargs)
    found, leaves = _noted(met, rule, args, kwargs)
    if not any(isinstance(leaf, Tracer) for leaf in leaves):
        found.note(*leaves)
    else:
        jax.debug.callback(found.note, *leaves)
    return call(rule, *args, **kwargs)


def _noted(met: Met, rule: Any, args: tuple, kwargs: dict) -> tuple[Rule, list[Any]]:
    """Return the rule as it is called, and the arrays among its arguments, with keys as numbers."""
    own_args, own_kwargs = jax.tree.map(_own, (args, kwargs))
    spec_args, spec_kwargs = jax.tree.map(_as_shape, (own_args, own_kwargs))
    held = arguments(spec_args, spec_kwargs, (), np.random.default_rng(0), rule.fun)
    held = held.keeping(lambda x: isinstance(x, float))  # Python floats stay as they are
    leaves, shapes = jax.tree.leaves((own_args, own_kwargs)), jax.tree.leaves((spec_args, spec_kwargs))
    key = (id(rule), held.tree, tuple(map(str, shapes)))
    arrays = [leaves[i] for i in held.places]
    kinds = [jax.random.key_impl(x) if _is_key(x) else shapes[i] for i, x in zip(held.places, arrays, strict=True)]
    found = met.rules.setdefault(key, Rule(rule, held, tuple(kinds)))
    return found, [jax.random.key_data(x) if _is_key(x) else x for x in arrays]


def _own(x: Any) -> Any:
    """Return a value as the rule's own function sees it, without tracers; of a batch, the first example."""
    while isinstance(x, Tracer):
        inner, axis = getattr(x, "primal", None), getattr(x, "batch_dim", None)
        if inner is None and hasattr(x, "batch_dim"):
            inner = getattr(x, "val", None)
        if inner is None:
            break
        x = lax.index_in_dim(inner, 0, axis, keepdims=False) if isinstance(axis, int) else inner
    return x


def _as_shape(x: Any) -> Any:
    """Replace an array by its shape; everything else stays as it is."""
    if isinstance(x, jax.Array | np.ndarray | np.generic):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=getattr(jax.typeof(x), "weak_type", False))
    return x


def _as_given(value: Any, spec: Any) -> Any:
    """Turn a value back into what it was: a key of this kind, a weakly typed number, or an array."""
    if not isinstance(spec, jax.ShapeDtypeStruct):
        return jax.random.wrap_key_data(value, impl=spec)
    weak = spec.weak_type and not spec.shape and jnp.issubdtype(spec.dtype, jnp.floating)
    return float(value) if weak else jnp.asarray(value)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _finite(values: tuple[Any, ...]) -> bool:
    with contextlib.suppress(TypeError):
        return all(np.isfinite(np.asarray(x, np.float64)).all() for x in values)
    return True
