"""Expressions of the names in a statement's scope, and products of these, with their values."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handprop.verifier.internal import call_users, noted
from handprop.verifier.programs import jaxprs
from handprop.verifier.proof.field.arithmetic import Elements, Field
from handprop.verifier.proof.field.interpreter import evaluate
from handprop.verifier.proof.field.truth import as_value
from handprop.verifier.proof.field.values import Value
from handprop.verifier.repair.instrument import Instrumented, Iteration
from handprop.verifier.repair.scope import Scope

__all__ = ["Library", "atoms_of", "flattened", "products_of"]

MAX_NUMBERS, MAX_NAMES, MAX_PRODUCTS = 1_000_000, 24, 20_000


class Library(NamedTuple):
    """Expressions as text, with their values as the rows of ``columns``; ``written`` are those that the user wrote."""

    texts: list[str]
    costs: np.ndarray
    columns: np.ndarray
    written: frozenset[int] = frozenset()


def flattened(parts: Sequence[Elements], wide: bool) -> np.ndarray:
    re = np.concatenate([x.re.ravel() for x in parts])
    return np.concatenate([re, *(x.imaginary().ravel() for x in parts)]) if wide else re


def _multiplied(f: Field, a: np.ndarray, b: np.ndarray, wide: bool) -> np.ndarray:
    if not wide:
        return f._mul(a, b)
    half = a.shape[1] // 2
    made = f.mul(Elements(a[:, :half], a[:, half:]), Elements(b[:, :half], b[:, half:]))
    return np.concatenate([made.re, made.imaginary()], axis=1)


def atoms_of(
    instrumented: Instrumented,
    scope: Scope,
    iterations: Sequence[Iteration],
    expressions: Sequence[str],
    shape: tuple[int, ...],
) -> list[tuple[str, float, list[Elements]]]:
    """Return expressions of the names that broadcast to the shape, with their values in every iteration."""
    texts = _texts(iterations[0], expressions, shape)
    program, kept = _traced(iterations, scope, texts, shape)
    if not kept:
        return []
    run = instrumented.interpretation.run()
    if len(iterations) == 1:
        inputs = [iterations[0].names[name] for name in iterations[0].shapes]
        out = [as_value(run, thing).x.move(lambda part: part[None]) for thing in evaluate(run, program, inputs)]
    else:
        inputs = [_stacked([iteration.names[name] for iteration in iterations]) for name in iterations[0].shapes]
        out = [as_value(run, thing).x for thing in evaluate(run, program, inputs)]
    return [(text, cost, [x.move(lambda part, k=k: np.broadcast_to(part[k], shape)) for k in range(len(iterations))])
            for (text, cost), x in zip(kept, out, strict=True)]  # fmt: skip


def _stacked(things: Sequence[Any]) -> Any:
    """Stack a name's values over all iterations on a new first axis. What is known of a value is dropped."""
    if not any(isinstance(thing, Value) for thing in things):
        return np.stack([np.asarray(thing) for thing in things])
    re = np.stack([thing.x.re for thing in things])
    wide = any(thing.x.im is not None for thing in things)
    return Value(Elements(re, np.stack([thing.x.imaginary() for thing in things]) if wide else None))


def _traced(iterations: Sequence[Iteration], scope: Scope, texts: list[tuple[str, float]],
            shape: tuple[int, ...]) -> tuple[Any, list[tuple[str, float]]]:  # fmt: skip
    """Trace the texts as one program, batched over the iterations if there are several.

    Returns it with the texts that have a value.
    """
    iteration = iterations[0]
    kept: list[tuple[str, float]] = []
    sizes = {
        name: int(x)
        for name, x in iteration.names.items()
        if isinstance(x, np.ndarray) and x.shape == () and x.dtype != bool
    }

    def every(*held: Any) -> list[Any]:
        arrays = dict(zip(iteration.shapes, held, strict=True)) | sizes
        made = []
        for text, cost in texts:
            try:
                names = {"jnp": jnp, "jax": jax} | scope.names(arrays)  # anew, since a text may change a list in it
                out = jnp.asarray(call_users(eval, text, names))
            except Exception as error:  # the shapes of most expressions do not fit
                noted(error)
                continue
            if (out.dtype == bool or jaxprs.is_float(out.dtype)) and _fits(out.shape, shape):
                made.append(out if out.dtype != bool else out.astype(jnp.float32))
                kept.append((text, cost))
        return made

    if len(iterations) == 1:
        return jaxprs.trace(every, list(iteration.shapes.values())), kept
    many = [jax.ShapeDtypeStruct((len(iterations), *s.shape), s.dtype) for s in iteration.shapes.values()]
    return jaxprs.trace(jax.vmap(every), many), kept


def _texts(iteration: Iteration, expressions: Sequence[str], shape: tuple[int, ...]) -> list[tuple[str, float]]:
    floats = [n for n, s in iteration.shapes.items() if jaxprs.is_float(s.dtype)]
    floats = sorted(floats, key=lambda n: n.count("[") + n.count("."))  # names before parts of trees
    once = {id(iteration.names[n]): n for n in reversed(floats)}  # of several names of an array, the first
    floats = [n for n in floats if once[id(iteration.names[n])] == n][:MAX_NAMES]
    truths = [n for n, s in iteration.shapes.items() if s.dtype == bool]
    found: list[tuple[str, float]] = [("1", 0.3)]
    for n in floats:
        rank = len(iteration.shapes[n].shape)
        found += [(n, 0.2), (f"(1 - {n})", 0.35), (f"(1 - {n} ** 2)", 0.4), (f"(1 / {n})", 1.6),
                  (f"(1 / (1 - {n}))", 1.8), (f"jnp.exp({n})", 0.6), (f"jnp.sqrt({n})", 0.7),
                  (f"jnp.sign({n})", 0.5)]  # fmt: skip
        found += [(f"({n} > 0)", 0.5), (f"({n} <= 0)", 0.5)] if rank else []
        if 1 <= rank < len(shape):
            found += [(f"{n}[..., None]", 0.3), (f"{n}[:, None]", 0.35)]
        if rank == 2:
            found.append((f"{n}.T", 0.3))
    found += [(n, 0.2) for n in truths] + [(f"(~{n})", 0.3) for n in truths]
    found += [(f"{n}[..., None]", 0.3) for n in truths if 1 <= len(iteration.shapes[n].shape) < len(shape)]
    if len(shape) == 2 and shape[0] == shape[1]:
        found += [
            (f"jnp.eye(len({n}))", 0.5) for n, s in iteration.shapes.items() if s.shape and s.shape[0] == shape[0]
        ]
    found += [(f"({text})", 0.45 + 0.002 * k) for k, text in enumerate(expressions)]
    plain = [n for n in floats if n.isidentifier()]
    return found + _reduced(iteration, plain, shape) + _contracted(iteration, plain, expressions, shape)


def _reduced(iteration: Iteration, names: list[str], shape: tuple[int, ...]) -> list[tuple[str, float]]:
    """Return sums and means, along one axis, of names and of products of two names."""
    found = []
    for a, b in [(n, None) for n in names] + list(itertools.combinations_with_replacement(names, 2)):
        own = iteration.shapes[a].shape
        if b is not None and own != iteration.shapes[b].shape:
            continue
        text, cost = (a, 0.5) if b is None else (f"({a} * {b})", 0.7)
        for axis in range(len(own)):
            which = axis if axis < len(own) - 1 or len(own) == 1 else -1
            kept = (*own[:axis], 1, *own[axis + 1 :])
            if len(own) == len(shape) and _fits(kept, shape) and own[axis] > 1:
                found += [(f"{text}.{reduce}({which}, keepdims=True)", cost) for reduce in ("sum", "mean")]
            elif own[:axis] + own[axis + 1 :] == shape:
                found += [(f"{text}.{reduce}({which})", cost) for reduce in ("sum", "mean")]
    return found


def _fits(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(own) <= len(shape) and all(n in (1, m) for n, m in zip(own[::-1], shape[::-1], strict=False))


def _contracted(iteration: Iteration, names: list[str], expressions: Sequence[str],
                shape: tuple[int, ...]) -> list[tuple[str, float]]:  # fmt: skip
    """Return products of matrices and vectors, including slices of matrices."""
    sizes = {n: iteration.shapes[n].shape for n in names}
    matrices, vectors = ([n for n, s in sizes.items() if len(s) == rank] for rank in (2, 1))
    cuts = {text[text.index("[") :] for text in expressions if text.endswith("]") and ":" in text}
    found = []
    for a, b in itertools.product(matrices, matrices):
        for left, turned, right, other in ((a, sizes[a], b, sizes[b]), (f"{a}.T", sizes[a][::-1], b, sizes[b]),
                                           (a, sizes[a], f"{b}.T", sizes[b][::-1])):  # fmt: skip
            if turned[1] == other[0] and (turned[0], other[1]) == shape:
                found.append((f"({left} @ {right})", 0.6))
    if len(shape) == 1:
        for a, b in itertools.product([*matrices, *(n + cut for n in matrices for cut in sorted(cuts))], vectors):
            found += [(f"({a} @ {b})", 0.6), (f"({a}.T @ {b})", 0.6)]
    outer = [(a, b) for a, b in itertools.product(vectors, vectors) if sizes[a] + sizes[b] == shape]
    return found + [(f"jnp.outer({a}, {b})", 0.6) for a, b in outer]


def products_of(f: Field, atoms: list[tuple[str, float, list[Elements]]], expressions: Sequence[str],
              wide: bool) -> Iterator[Library]:  # fmt: skip
    """Yield the atoms, then products of two, then of three whose third factor is a plain name."""
    if not atoms:
        return
    texts, costs = [a[0] for a in atoms], np.array([a[1] for a in atoms])
    columns = np.stack([flattened(a[2], wide) for a in atoms])
    written = frozenset(k for k, text in enumerate(texts) if text.startswith("(") and text[1:-1] in expressions)
    yield Library(texts, costs, columns, written)
    order = [k for k in np.argsort(costs, kind="stable") if texts[k] != "1"]
    most = min(MAX_NUMBERS // max(columns.shape[1], 1), MAX_PRODUCTS)
    seconds = order[: max(2, int((2 * most) ** 0.5))]
    i, j = (np.array(x, int) for x in zip(*itertools.combinations_with_replacement(seconds, 2), strict=True))
    apart = np.array([not _undo(texts[a], texts[b]) for a, b in zip(i, j, strict=True)])
    i, j = i[apart], j[apart]
    pairs = Library([f"{texts[a]} * {texts[b]}" for a, b in zip(i, j, strict=True)], costs[i] + costs[j],
                     _multiplied(f, columns[i], columns[j], wide))  # fmt: skip
    yield pairs
    names = [k for k in order if texts[k].isidentifier()]
    triples = [(pair, k) for pair in np.argsort(pairs.costs, kind="stable")[: most // max(len(names), 1)] for k in names
               if not _undo(pairs.texts[pair], texts[k])]  # fmt: skip
    if triples:
        i, j = (np.array(x, int) for x in zip(*triples, strict=True))
        yield Library([f"{pairs.texts[a]} * {texts[b]}" for a, b in triples], pairs.costs[i] + costs[j],
                       _multiplied(f, pairs.columns[i], columns[j], wide))  # fmt: skip


def _undo(one: str, other: str) -> bool:
    """Whether one expression contains the inverse of the other."""
    return f"(1 / {one})" in other or f"(1 / {other})" in one
