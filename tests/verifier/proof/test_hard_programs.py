"""Programs that print, raise, never end or keep their indices outside: judged, and never a crash."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import dispatch
from selecting import all_but

import handprop as v
from handprop.verifier.programs import jaxprs, running, widen
from handprop.verifier.programs.polynomial import is_polynomial_in

X = jnp.asarray(np.random.default_rng(0).normal(size=6), jnp.float32)
IDS = np.array([0, 1, 1])


def ruled(primal, backward):
    rule = jax.custom_vjp(primal)
    rule.defvjp(lambda x: (primal(x), x), lambda x, d: (backward(x, d),))
    return rule


def cube(x):
    return x**3


def picked(factor):
    return ruled(lambda e: e[IDS], lambda e, d: jnp.zeros_like(e).at[IDS].add(factor * d))


def test_an_index_kept_as_a_numpy_array_outside():
    table = jnp.ones((3, 2))
    for _ in range(2):  # neither report changes what the function is traced to in the next
        right = v.verify(picked(1.0), table, skip=("identical", "proof"))
        assert right.verdict is v.Verdict.VERIFIED, right
        wrong = v.verify(picked(1.1), table)
        assert wrong.verdict is v.Verdict.REFUTED, wrong
        assert wrong.location is not None
    assert jax.grad(lambda e: picked(1.0)(e).sum())(table).sum() == 6


def test_a_rule_that_prints(capfd):
    def printing(x, d):
        jax.debug.print("x is {}", x[0])
        return 3 * x * x * d

    assert v.verify(ruled(cube, printing), X, skip=("identical", "proof")).ok
    assert capfd.readouterr().out.count("x is") <= 2  # in its own dtype alone


def positive(x):
    def looked_at(x):
        if (np.asarray(x) <= 0).any():
            raise ValueError("not positive")
        return np.asarray(x)

    return jax.pure_callback(looked_at, x, x, vmap_method="sequential")


def test_where_a_rule_raises_is_outside_its_domain():
    raising = ruled(cube, lambda x, d: 3 * positive(x) ** 2 * d)
    report = v.verify(raising, jnp.abs(X) + 1)
    assert report.ok, report
    assert any("raises" in text and "not positive" in text for text in report.findings), report.findings
    nowhere = v.verify(raising, -jnp.abs(X))
    assert nowhere.verdict is v.Verdict.INCONCLUSIVE, nowhere
    assert "not positive" in nowhere.reason


def halved(x):
    """Until it is below 1: never for what is not a number, at once for zeros."""
    return jax.lax.while_loop(lambda s: ~(jnp.abs(s[0]).max() < 1), lambda s: (s[0] / 2, s[1] / 2), (x, x))[1]


def doubled(x, d):
    """Until it is above 100, which zeros never are."""
    return jax.lax.while_loop(lambda s: jnp.abs(s[0]).max() < 100, lambda s: (2 * s[0], s[1] + 0 * s[0]), (x, d))[1]


@pytest.mark.parametrize("name", ["rounding", "edge_cases"])
def test_a_loop_that_never_ends_is_cut(name):
    start = time.monotonic()
    report = v.verify(ruled(lambda x: 1.0 * x, doubled), X, skip=all_but("structure", name))
    assert time.monotonic() - start < 20
    assert report.verdict is not v.Verdict.REFUTED, report
    if name == "edge_cases":
        assert "a loop goes on" in report.check(name).summary


def test_a_loop_of_more_turns_than_are_tried_is_not_judged():
    """Its own program returns the right numbers, and what it was cut at is none."""

    def turned(x, n):
        return jax.lax.fori_loop(0, n, lambda _, y: y + 0, x)

    report = v.equivalent(turned, lambda x, n: 1 * x, X, np.int32(200_000), budget=10)
    assert report.verdict is not v.Verdict.REFUTED, report
    assert v.equivalent(turned, lambda x, n: 2 * x, X, np.int32(20), skip="repair").verdict is v.Verdict.REFUTED


def test_why_a_program_cannot_be_traced_in_float64_is_said():
    def narrow(x, d):
        assert x.dtype == jnp.float32, "only float32"
        with jax.ensure_compile_time_eval():
            return d * 3 * x * x

    assert v.verify(ruled(cube, narrow), X).ok


EMPTY = np.zeros((0, 0), np.float32)


@pytest.mark.parametrize(("f", "g", "args"), [
    (jnp.linalg.cholesky, lambda a: jnp.linalg.cholesky(1.0 * a), (EMPTY,)),
    (jnp.linalg.solve, lambda a, b: jnp.linalg.inv(a) @ b, (EMPTY, np.zeros((0, 2), np.float32))),
])  # fmt: skip
def test_equations_without_unknowns(f, g, args):
    report = v.equivalent(f, g, *args)
    assert report.verdict is v.Verdict.PROVED
    assert not report.internal


@pytest.mark.parametrize("rows", [3, np.int32(3), np.array(3)])
def test_a_number_that_shapes_are_made_of(rows):
    def summed(x, rows):
        return x.reshape(int(rows), -1).sum(1)

    sums = jax.custom_vjp(summed)
    sums.defvjp(lambda x, rows: (summed(x, rows), None), lambda kept, d: (jnp.repeat(d, 2), None))
    report = v.verify(sums, X, rows)
    assert report.verdict is v.Verdict.PROVED
    assert report.conditions in ((), ("rows is 3, as given",))


def test_coefficients_of_a_polynomial_are_finite():
    scaled, endless = (jax.make_jaxpr(lambda x, y, c=c: c * x * y * y)(X, X) for c in (2.0, np.inf))
    assert is_polynomial_in(scaled, {1})
    assert not is_polynomial_in(endless, {1})
    assert not is_polynomial_in(jax.make_jaxpr(lambda x, y: y * y * (1 / jax.lax.full((), 0.0)))(X, X), {1})


def test_a_long_product_is_walked_once():
    def squared(x, times):
        power = jnp.exp(x)
        for _ in range(times):
            power = power * power
        return power

    steps = jnp.abs(jnp.tile(X, 100))
    report = v.equivalent(lambda x: jnp.sqrt(squared(x, 14)), lambda x: squared(x, 13), X,
                          skip=all_but("proof", "structure"), budget=60)  # fmt: skip
    assert report.verdict is v.Verdict.PROVED
    report = v.equivalent(lambda y: jax.lax.scan(lambda c, r: (c * jnp.exp(r), None), 1.0, y)[0],
                          lambda y: jax.lax.scan(lambda c, r: (jnp.exp(r) * c, None), 1.0, y)[0], steps,
                          skip=all_but("proof", "structure"), budget=60)  # fmt: skip
    assert not report.internal
    assert report.verdict is v.Verdict.PROVED


@pytest.mark.parametrize("loop", ["scan", "while", "fori"])
def test_a_loop_that_runs_by_itself_leaves_no_executable_behind(loop):
    """JAX keeps what it compiles for a primitive that runs on numbers, here the loop's whole program, for good."""
    loops = {
        "scan": lambda x: jax.lax.scan(lambda h, a: (jnp.tanh(h + a), h), x[0], x)[0],
        "while": lambda x: jax.lax.while_loop(lambda h: h < 3, lambda h: h * (1 + x[2]), x[0]),
        "fori": lambda x: jax.lax.fori_loop(0, 5, lambda i, h: jnp.sin(h) + x[1], x[0]),
    }
    x = jnp.array([0.3, 1.2, 0.7], jnp.float32)
    program, kept = jaxprs.trace(loops[loop], [x]), []
    for _ in range(3):
        (got,) = running.run(program, [x], cut_loops=True)
        kept.append(dispatch.xla_primitive_callable.cache_info().currsize)
    np.testing.assert_allclose(got, loops[loop](x), rtol=1e-6)
    assert kept[0] == kept[1] == kept[2]


@pytest.mark.parametrize("name", ["svd", "eigh", "eig"])
def test_matrices_that_are_not_finite_are_not_given_to_lapack(name):
    """Its iterations may not end there."""
    parts = {
        "svd": lambda a: jnp.linalg.svd(a, compute_uv=False),
        "eigh": lambda a: jnp.linalg.eigh(a)[0],
        "eig": lambda a: jnp.real(jnp.linalg.eig(a)[0]),
    }
    x = jnp.stack([jnp.diag(jnp.array([3.0, 2.0, 1.0])), jnp.eye(3).at[0, 1].set(jnp.inf)])
    (got,) = widen.widen(jaxprs.trace(parts[name], [x]))([x], None, None)
    np.testing.assert_allclose(sorted(got[0]), [1.0, 2.0, 3.0], rtol=1e-12)
    assert np.isnan(got[1]).all()


@pytest.mark.parametrize(
    "two",
    [lambda: jnp.full((6000,), 2, jnp.int32).astype(jnp.float32), lambda: jnp.where(jnp.full(6000, True), 2.0, 3)],
)
def test_integers_as_many_as_the_entries_of_which_some_are_drawn(two):
    report = v.equivalent(lambda x: x * two(), lambda x: x + x, jnp.linspace(0.1, 1.0, 6000))
    assert report.verdict is v.Verdict.PROVED, report
    assert not report.internal


def test_a_window_of_thousands_of_entries_ends_in_time():
    window = ((3001,), (1,), "SAME")
    start = time.monotonic()
    report = v.equivalent(
        lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window),
        lambda x: -jax.lax.reduce_window(-x, jnp.inf, jax.lax.min, *window),
        jnp.linspace(0.5, 1.5, 20000),
        skip=all_but("structure", "proof"),
        budget=4,
    )
    assert report.verdict is v.Verdict.INCONCLUSIVE
    assert time.monotonic() - start < 1.5 * 4 + 5


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("reduced", "written"), [
    (lambda x, f: jax.lax.reduce(x, np.float32(0), f, (1,)), lambda x: jnp.prod(1 + x, 1) - 1),
    (lambda x, f: jax.lax.reduce_window(x, np.float32(0), f, (1, 2), (1, 1), "VALID"),
     lambda x: (1 + x[:, 1:]) * (1 + x[:, :-1]) - 1),
    (lambda x, f: jax.lax.reduce((x, 2 * x), (np.float32(0), np.float32(0)),
                                 lambda a, b: (f(a[0], b[0]), a[1] + b[1]), (1,)),
     lambda x: (jnp.prod(1 + x, 1) - 1, 2 * x.sum(1))),
])  # fmt: skip
def test_reductions_with_a_function_of_their_own(reduced, written):
    x = X.reshape(2, 3)
    right, wrong = (v.equivalent(lambda x: reduced(x, lambda a, b: a + b + c * a * b), written, x) for c in (1, 1.1))  # noqa: B023
    assert (right.verdict, wrong.verdict) == (v.Verdict.VERIFIED, v.Verdict.REFUTED), f"{right}\n{wrong}"


def closing_over(w, x):
    """A rule that is made where it is used."""
    scaled = jax.custom_vjp(lambda x: w * x)
    scaled.defvjp(lambda x: (w * x, None), lambda _, d: (w * d,))
    return scaled(x)


def test_a_rule_that_closes_over_what_is_differentiated():
    report = v.verify(closing_over, X, X)
    assert report.verdict is v.Verdict.INCONCLUSIVE and not report.internal, report
    assert "a rule closes over an argument that is differentiated" in report.reason
    assert v.verify(closing_over, X, X, argnums=(1,)).verdict is v.Verdict.PROVED


def contrastive(z):
    scores = jnp.where(jnp.eye(4, dtype=bool), -1e9, z @ z.T / 0.5)
    return -jax.nn.log_softmax(scores, 1)[jnp.arange(4), jnp.array([1, 0, 3, 2])].mean()


def contrastive_by_hand(z):
    p = jax.nn.softmax(jnp.where(jnp.eye(4, dtype=bool), -1e9, z @ z.T / 0.5), 1)
    g = (p - jnp.eye(4)[jnp.array([1, 0, 3, 2])]) / 4
    return (g + g.T) @ z / 0.5


KEY = jax.random.key(3)
POINTS = np.random.default_rng(7).normal(size=(4, 3)).astype(np.float32)
ENTRIES = np.random.default_rng(0).uniform(0.2, 1.2, (4, 4)).astype(np.float32)
FINE = {  # by name: two programs that are the same wherever they are defined, and their arguments
    "series that do not end": (lambda a, x: jax.scipy.special.gammainc(a, x) + jax.scipy.special.gammaincc(a, x),
                               lambda a, x: jnp.ones_like(x), ENTRIES[0], ENTRIES[1]),
    "a matrix with an infinite entry": (lambda a: jnp.linalg.inv(a).T, lambda a: jnp.linalg.inv(a.T), ENTRIES),
    "a loop that NaN ends": (lambda b: jax.scipy.sparse.linalg.cg(lambda x: 2 * x, b, tol=1e-12)[0], lambda b: b / 2,
                             ENTRIES[0]),
    "a key in a closure": (lambda a: jax.random.gamma(KEY, a) * 2.0,
                           lambda a: jax.random.gamma(KEY, a) + jax.random.gamma(KEY, a), ENTRIES[0]),
}  # fmt: skip


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", FINE)
@pytest.mark.usefixtures("jax_as_it_comes")
def test_what_no_number_decides_accuses_nobody(name):
    f, g, *args = FINE[name]
    report = v.equivalent(f, g, *args, skip=["repair"])
    assert report.ok and not report.internal, report


@pytest.mark.sweep
@pytest.mark.usefixtures("jax_as_it_comes")
def test_a_mask_that_numbers_are_below_is_the_proofs_condition():
    report = v.verify_gradient(contrastive_by_hand, contrastive, POINTS)
    assert report.verdict is v.Verdict.PROVED and "-1e+09 stands for minus infinity" in report.conditions, report
    assert any("a mask no longer stands for minus infinity" in text for text in report.findings), report


@pytest.mark.usefixtures("jax_as_it_comes")
def test_where_a_function_jumps_its_gradient_is_nowhere():
    """The first factor of a QR decomposition does not depend on the size of the matrix, and has no limit at 0."""

    def first(a):
        return jnp.linalg.qr(a)[0].sum()

    assert v.verify_gradient(lambda a: 1.0 * jax.grad(first)(a), first, ENTRIES, skip=["repair"]).ok


@pytest.mark.sweep
@pytest.mark.usefixtures("jax_as_it_comes")
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_sample_by_rejection_has_an_implicit_derivative(factor):
    def drawn(a):
        return jax.random.gamma(KEY, a).sum()

    skip = ["repair", "transformations", "edge_cases"]
    report = v.verify_gradient(lambda a: factor * jax.grad(drawn)(a), drawn, ENTRIES[0], skip=skip)
    assert report.verdict is (v.Verdict.VERIFIED if factor == 1 else v.Verdict.REFUTED), report


def in_a_scan(factor):
    """Adds factor x to an array that is written to, once for each entry of x."""

    def f(x):
        total = jax.new_ref(x)

        def turn(carry, y):
            total[...] = total[...] + factor * y
            return carry, None

        jax.lax.scan(turn, 0.0, x)
        return total[...]

    return f


def written(f):
    """What f returns for an array of its own that holds x."""
    return lambda x: f(jax.new_ref(1.0 * x), x)


def doubled_in_place(held, x):
    held[...] = held[...] * 2
    return held[...]


@pytest.mark.parametrize(("f", "g"), [
    (in_a_scan(0.5), lambda x: x + 0.5 * x.sum()),
    (written(doubled_in_place), lambda x: 2 * x),
    (jax.grad(lambda x: written(doubled_in_place)(x * x).sum()), lambda x: 4 * x),
])  # fmt: skip
def test_an_array_that_is_written_to_is_followed(f, g):
    x = jnp.array([0.3, -1.2, 2.0])
    assert v.equivalent(f, g, x, skip=["repair"]).verdict is v.Verdict.VERIFIED
    wrong = v.equivalent(lambda x: 1.001 * f(x), g, x, skip=["repair"])
    assert wrong.verdict is v.Verdict.REFUTED, wrong
