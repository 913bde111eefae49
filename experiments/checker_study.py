"""Which gradient checker finds which mistake, how often does it accuse a right rule, and what does it cost?

The right rules of ``experiments/corpus`` and their one-line mutants go through ``jax.test_util.check_grads`` (reverse
mode, and forward mode if a rule has it), ``chex.assert_numerical_grads``, ``torch.autograd.gradcheck`` if torch is
installed, and ``handprop.verify``, each with its own defaults. A checker that raises rejects the rule. First come all
mutants at 23 elements in float32, then two rules and their mutants at n = 10 to 100,000 in float32, bfloat16 and
float64. A mutant counts if its fault is above the dtype's resolution; those below it are listed apart.

Cases run in random order, so that ``--minutes`` may end the study at any time with a fair sample. ``--quick`` takes a
tenth of the rules, two sizes and float32. Seconds are processor seconds and include compilation, since each checker
runs once per rule. The figures go to ``benchmarks/checker_study.json``.

Answer (jax 0.10.2, CPU, 333 of 646 cases): at 23 elements in float32, ``check_grads`` finds 150 of 171 wrong rules,
chex 136, and handprop all of them; at 100,000 elements chex finds 1 of 12. In bfloat16, both of the others accuse right
rules. handprop accused none, missed none, and takes one or two processor seconds per rule; the others take less than
0.6.

The column of ``gradcheck`` has not been run yet, because torch was not installed where the figures were measured.
"""

import importlib.util
import json
import platform
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import chex
import corpus
import jax
import jax.numpy as jnp
import numpy as np
from _command import options, parser
from corpus.verdict import report_of
from jax.test_util import check_grads

from handprop.cli import plots

FIGURES = Path(__file__).parent / "benchmarks" / "checker_study.json"
SIZES = (10, 1_000, 100_000)
DTYPES = ("float32", "bfloat16", "float64")
WIDTH = {"bfloat16": 0, "float32": 1, "float64": 2}
SWEPT = ("sigmoid", "dense")
TORCH = importlib.util.find_spec("torch") is not None


class Result(NamedTuple):
    """What one checker said about one rule; ``against`` is None if the checker does not apply."""

    part: str
    checker: str
    name: str
    kind: str  # "right" for a right rule
    dtype: str
    size: int
    against: bool | None
    said: str
    seconds: float


def as_rule(rule: corpus.Rule) -> Callable:
    """Return the rule itself. A plain gradient function becomes the rule of its loss."""
    if rule.loss is None:
        return rule.function
    loss, gradient = rule.loss, rule.function
    chosen = (rule.argnums,) if isinstance(rule.argnums, int) else rule.argnums
    made = jax.custom_vjp(loss)

    def backward(args: tuple, d: jax.Array) -> tuple:
        grads = gradient(*args)
        grads = grads[1] if isinstance(rule.argnums, int) else grads
        named = dict(zip(chosen, grads if len(chosen) > 1 else (grads,), strict=True))
        return tuple(d * named[i] if i in named else None for i in range(len(args)))

    made.defvjp(lambda *args: (loss(*args), args), backward)
    return made


def of_floats(f: Callable, args: tuple, chosen: Iterable[int]) -> tuple[Callable, tuple]:
    """Return ``f`` as a function of those of the chosen arguments that have a floating dtype."""
    places = [i for i in chosen if jnp.issubdtype(args[i].dtype, jnp.floating)]

    def g(*floats: jax.Array) -> Any:
        whole = list(args)
        for place, value in zip(places, floats, strict=True):
            whole[place] = value
        return f(*whole)

    return g, tuple(args[i] for i in places)


def _differentiable(rule: corpus.Rule, args: tuple) -> tuple[Callable, tuple]:
    if rule.loss is None:
        return of_floats(as_rule(rule), args, range(len(args)))
    return of_floats(as_rule(rule), args, (rule.argnums,) if isinstance(rule.argnums, int) else rule.argnums)


def reverse(rule: corpus.Rule, args: tuple) -> str:
    check_grads(*_differentiable(rule, args), order=1, modes=("rev",))
    return "passed"


def forward(rule: corpus.Rule, args: tuple) -> str | None:
    """Check forward mode. Elementwise rules of one vector are their own forward rule; others have none."""
    f = rule.function
    if isinstance(f, jax.custom_vjp):
        if len(args) > 1 or rule.name not in ("sigmoid", "silu"):
            return None
        fwd, bwd = f.fwd, f.bwd
        assert fwd is not None and bwd is not None
        f = jax.custom_jvp(f.__wrapped__)
        f.defjvp(lambda primals, tangents: (fwd(*primals)[0], *bwd(fwd(*primals)[1], *tangents)))
    elif rule.loss is not None:
        return None
    check_grads(f, args, order=1, modes=("fwd",))
    return "passed"


def numerical(rule: corpus.Rule, args: tuple) -> str:
    f, floats = _differentiable(rule, args)
    chex.assert_numerical_grads(f, floats, order=1, modes=("rev",))
    return "passed"


def gradcheck(rule: corpus.Rule, args: tuple) -> str | None:
    """Let torch call the same JAX functions through NumPy, and run its own check, which is meant for float64."""
    if args[0].dtype != np.float64:
        return None
    torch = importlib.import_module("torch")
    f, floats = _differentiable(rule, args)

    class Called(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, *tensors: Any) -> Any:
            out, context.pull = jax.vjp(f, *(jnp.asarray(t.detach().numpy()) for t in tensors))
            return torch.from_numpy(np.array(out))

        @staticmethod
        def backward(context: Any, *cotangents: Any) -> Any:
            grads = context.pull(jnp.asarray(cotangents[0].numpy()))
            return tuple(torch.from_numpy(np.array(g)) for g in grads)

    tensors = [torch.from_numpy(np.array(x)).requires_grad_() for x in floats]
    torch.autograd.gradcheck(Called.apply, tensors, fast_mode=sum(x.size for x in floats) > 1_000)
    return "passed"


def verified(rule: corpus.Rule, args: tuple) -> str:
    """Run every check, but no search for the mistake, which the other checkers do not have."""
    return report_of(rule, args, skip=("repair",)).raise_if_refuted().verdict.name


CHECKERS: dict[str, Callable[[corpus.Rule, tuple], str | None]] = {
    "check_grads rev": reverse,
    "check_grads fwd": forward,
    "chex": numerical,
    **({"gradcheck": gradcheck} if TORCH else {}),
    "handprop": verified,
}


def ask(part: str, checker: str, rule: corpus.Rule, name: str, kind: str, dtype: str, size: int) -> Result:
    """Run one checker on one rule."""
    with jax.enable_x64(dtype == "float64"):
        args = rule.make_args(size=size, dtype=dtype)
        start = time.process_time()
        try:
            said = CHECKERS[checker](rule, args)
            against = None if said is None else False
        except Exception as error:
            against, said = True, f"{type(error).__name__}: {traceback.format_exception_only(error)[0].strip()[:80]}"
        return Result(part, checker, name, kind, dtype, size, against, said or "", time.process_time() - start)


class Case(NamedTuple):
    """One rule to check, which is loaded only when it runs."""

    part: str
    name: str
    kind: str
    load: Callable[[], corpus.Rule]
    dtype: str
    size: int


def cases(quick: bool) -> list[Case]:
    """Return every rule at the default size, and the swept ones at every size and dtype.

    The right rules of the sweep come first; the others are shuffled.
    """
    right = {rule.name: rule for rule in corpus.right_rules()}
    wrong = corpus.mutants()
    found = [Case("all", name, "right", lambda r=r: r, "float32", corpus.SIZE) for name, r in right.items()]
    found = found[:: 10 if quick else 1]
    small = [m for m in wrong if m.size == 0]
    found += [Case("below" if m.seen_in == "float64" else "all", m.name, m.kind, m.load, "float32", corpus.SIZE)
              for m in small[:: 10 if quick else 1]]  # fmt: skip
    for dtype in DTYPES[: 1 if quick else 3]:
        for size in SIZES[::2] if quick else SIZES:
            for name in SWEPT[: 1 if quick else 2]:
                found.append(Case("sweep", name, "right", lambda r=right[name]: r, dtype, size))
                found += [Case("sweep", m.name, m.kind, m.load, dtype, size) for m in wrong
                          if m.rule == name and m.size <= size and WIDTH[m.seen_in] <= WIDTH[dtype]]  # fmt: skip
    first = [case for case in found if case.part == "sweep" and case.kind == "right"]
    rest = [case for case in found if case not in first]
    return first + [rest[i] for i in np.random.default_rng(0).permutation(len(rest))]


def measure(found: list[Case], keep: Callable[[list[Result]], None], minutes: float = float("inf")) -> list[Result]:
    """Run every case through every checker until time is up, and call ``keep`` as results come in."""
    results: list[Result] = []
    end = time.monotonic() + 60 * minutes
    for i, case in enumerate(found):
        if time.monotonic() > end:
            break
        rule = case.load()
        for checker in CHECKERS:
            results.append(ask(case.part, checker, rule, case.name, case.kind, case.dtype, case.size))
        if i % 20 == 19:
            keep(results)
            jax.clear_caches()
    keep(results)
    return results


class Score(NamedTuple):
    """Wrong rules found (killed), right rules accused, and average seconds per rule."""

    killed: int
    wrong: int
    accused: int
    right: int
    seconds: float

    def __str__(self) -> str:
        if not self.wrong + self.right:
            return f"{'-':>22}"
        return f"{self.killed:>4}/{self.wrong:<3} {self.accused:>2}/{self.right:<2} {self.seconds:>6.2f} s"


def score(results: Iterable[Result]) -> Score:
    spoke = [r for r in results if r.against is not None]
    wrong, right = ([r for r in spoke if (r.kind == "right") is side] for side in (False, True))
    seconds = float(np.mean([r.seconds for r in spoke])) if spoke else 0.0
    killed, accused = (sum(bool(r.against) for r in side) for side in (wrong, right))
    return Score(killed, len(wrong), accused, len(right), seconds)


def grouped(results: list[Result], part: str, *by: str) -> dict[tuple, dict[str, Score]]:
    """Return the scores of one part by the named fields, then by checker."""
    groups: dict[tuple, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for r in results:
        if r.part == part:
            groups[tuple(getattr(r, field) for field in by)][r.checker].append(r)
    return {key: {c: score(rs) for c, rs in checkers.items()} for key, checkers in groups.items()}


def table(results: list[Result]) -> str:
    """Return wrong rules killed, right rules accused and seconds per rule, by checker."""
    head = f"{'':<24}" + "".join(f"{c:>22}" for c in CHECKERS)
    lines = ["killed/wrong, accused/right, seconds per rule", head]
    parts = (("all, float32, 23", "all", ()), ("below its resolution", "below", ()), ("", "sweep", ("dtype", "size")))
    for title, part, by in parts:
        for key, scores in grouped(results, part, *by).items():
            name = title or f"{key[0]}, {key[1]:,}"
            lines.append(f"{name:<24}" + "".join(f"{scores[c]!s:>22}" for c in CHECKERS))
    lines += ["", "by kind of mistake, all, float32, 23: killed/wrong"]
    for (kind,), scores in sorted(grouped(results, "all", "kind").items()):
        if kind != "right":
            lines.append(f"{kind:<24}" + "".join(f"{f'{scores[c].killed}/{scores[c].wrong}':>22}" for c in CHECKERS))
    proved = [r.said for r in results if r.part == "all" and r.checker == "handprop" and r.kind == "right"]
    lines += ["", f"right rules, handprop: {', '.join(f'{proved.count(v)} {v}' for v in sorted(set(proved)))}"]
    return "\n".join([*lines, *([] if TORCH else ["torch.autograd.gradcheck: torch is not installed"])])


def _draw(results: list[Result], path: Path) -> None:
    scores = grouped(results, "sweep", "dtype", "size")
    dtypes = [dtype for dtype in DTYPES if any(key[0] == dtype for key in scores)]
    drawing = plots.figure(3.2 * len(dtypes) + 0.6, 4.0)
    all_axes = np.atleast_1d(drawing.subplots(1, len(dtypes), sharey=True))
    colours = {"check_grads rev": plots.ORANGE, "check_grads fwd": "#b08a1e", "chex": plots.GREY,
               "gradcheck": "#7a4fa3", "handprop": plots.BLUE}  # fmt: skip
    for axes, dtype in zip(all_axes, dtypes, strict=True):
        for checker in CHECKERS:
            at = {size: s[checker] for (d, size), s in scores.items() if d == dtype and s[checker].wrong}
            killed = [100 * s.killed / s.wrong for s in at.values()]
            accused = [100 * s.accused / max(s.right, 1) for s in at.values()]
            axes.semilogx(list(at), killed, "o-", color=colours[checker], markersize=4, label=checker)
            axes.semilogx(list(at), accused, "x:", color=colours[checker], markersize=5)
        axes.set_title(dtype, fontsize=11)
        axes.set_xlabel("elements n")
        axes.set_ylim(-4, 104)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, alpha=0.25)
    all_axes[0].set_ylabel("% (solid: wrong rules found,\ndotted: right rules accused)")
    handles, labels = all_axes[0].get_legend_handles_labels()
    drawing.legend(handles, labels, frameon=False, fontsize=9, ncols=len(labels), loc="outside lower center")
    plots.save(drawing, path)


def figures(results: list[Result], cases: int) -> dict[str, Any]:
    """Return the content of the file: scores, what each checker missed, and the machine."""
    missed: dict[str, list[str]] = defaultdict(list)
    for r in results:
        if r.against is not None and bool(r.against) is (r.kind == "right"):
            missed[r.checker].append(f"{r.name} ({r.kind}), {r.dtype}, {r.size}: {r.said}")
    scores = {part: [{**dict(zip(by, key, strict=True)), **{c: s._asdict() for c, s in at.items()}}
                     for key, at in grouped(results, part, *by).items()]
              for part, by in (("all", ("kind",)), ("below", ("kind",)), ("sweep", ("dtype", "size")))}  # fmt: skip
    return {
        "what": "wrong rules of experiments/corpus killed, right rules accused, processor seconds a rule, by checker",
        "machine": f"{platform.machine()}, CPU",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "chex": chex.__version__,
        "cases_asked": len(results) // len(CHECKERS),
        "cases": cases,
        "torch": "installed" if TORCH else "not installed",
        "scores": scores,
        "missed_or_accused": missed,
        "handprop_on_right_rules": {
            r.name: r.said for r in results if r.part == "all" and r.checker == "handprop" and r.kind == "right"
        },
    }


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--quick", action="store_true", help="a tenth of the mutants, few sizes, float32 only")
    arguments.add_argument("--figures", type=Path, default=FIGURES, help="the file for the figures")
    arguments.add_argument("--minutes", type=float, default=float("inf"), help="stop after this many minutes")
    given = options(arguments)
    found = cases(given.quick)

    def keep(results: list[Result]) -> None:
        given.figures.write_text(json.dumps(figures(results, len(found)), indent=1) + "\n")

    results = measure(found, keep, given.minutes)
    print(f"{len(results) // len(CHECKERS)} of {len(found)} cases were run")
    print(table(results))
    _draw(results, given.out / "checker_study.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
