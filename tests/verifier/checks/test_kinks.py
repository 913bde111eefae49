"""One point, one answer: kinks, removable points, divisions by zero, infinities, and numbers out of range."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop as v

X = jnp.asarray(np.random.default_rng(0).normal(size=6), jnp.float32)
GIVEN = jnp.array([0.0, 1.0, -1.0, 0.0])
ONES = jnp.ones(4)
DATA = jnp.arange(12.0).reshape(4, 3)


def ruled(primal, backward):
    """A custom_vjp whose residuals are its arguments."""
    rule = jax.custom_vjp(primal)
    rule.defvjp(lambda *args: (primal(*args), args), lambda args, d: backward(*args, d))
    return rule


def relu(x):
    return jnp.maximum(x, 0)


def largest(x):
    return jnp.max(x)


def product(x):
    return jnp.prod(x)


def penalised(w):
    return jnp.sum((DATA @ w) ** 2) + 0.1 * jnp.abs(w).sum()


def log_sigmoid(x):
    return -jnp.maximum(-x, 0) - jnp.log1p(jnp.exp(-jnp.abs(x)))


def log_sigmoid_as_autodiff(x, d):
    tail = jnp.exp(-jnp.abs(x))
    return (d * (jnp.where(x <= 0, 1.0, 0.0) + jnp.sign(x) * tail / (1 + tail)),)


def logsumexp(x):
    return jax.nn.logsumexp(x)


def softmax_of(x, d):
    return (d * jax.nn.softmax(x),)


def median(x):
    return jnp.sort(x)[2]


def smallest_relu(share):
    """Of the cones where its gradient is not zero each is an entry's, and a small part of all directions."""

    def rule(x, d):
        least = relu(x) == relu(x).min()
        return (jnp.where((x == 0).all(), d * share / 2, d * jnp.where(least & (x > 0), 1 / least.sum(), 0.0)),)

    return ruled(lambda x: relu(x).min(), rule)


TIED = jnp.array([3.0, 1.0, 2.0, 5.0, 2.0])

RIGHT = {
    "relu": (ruled(relu, lambda x, d: (jnp.where(x > 0, d, 0),)), GIVEN),
    "the other relu": (ruled(relu, lambda x, d: (jnp.where(x >= 0, d, 0),)), GIVEN),
    "half of relu": (ruled(relu, lambda x, d: (d * jnp.where(x == 0, 0.3, x > 0),)), GIVEN),
    "absolute": (ruled(lambda x: jnp.abs(x), lambda x, d: (d * jnp.where(x >= 0, 1.0, -1.0),)), GIVEN),
    "relu of mixed signs": (
        ruled(lambda x: (relu(x) * jnp.array([1.0, -2.0, 3.0, -4.0])).sum(),
              lambda x, d: (d * jnp.where(x > 0, 1.0, 0.0) * jnp.array([1.0, -2.0, 3.0, -4.0]),)), jnp.zeros(4),
    ),
    "penalty": (ruled(penalised, lambda w, d: (d * (2 * DATA.T @ (DATA @ w) + 0.1 * jnp.where(w > 0, 1.0, -1.0)),)),
                jnp.zeros(3)),
    "first of ties": (ruled(largest, lambda x, d: (d * (jnp.arange(4) == jnp.argmax(x)),)), ONES),
    "the first of tied medians": (
        ruled(median, lambda x, d: (d * (jnp.arange(5) == jnp.argmax(x == median(x))),)), TIED,
    ),
    "tied medians shared": (ruled(median, lambda x, d: (d * (x == median(x)) / (x == median(x)).sum(),)), TIED),
    "ties shared": (ruled(largest, lambda x, d: (d * (x == x.max()) / (x == x.max()).sum(),)), ONES),
    "smallest relu": (smallest_relu(1 / 6), jnp.zeros(6)),
    "smooth": (ruled(log_sigmoid, lambda x, d: (d * jax.nn.sigmoid(-x),)), GIVEN),
    "product": (ruled(product, lambda x, d: (d * jnp.stack([jnp.prod(jnp.where(jnp.arange(4) == i, 1, x))
                                                            for i in range(4)]),)), jnp.array([0.5, 0.0, 2.0, 1.5])),
    "masked": (ruled(logsumexp, softmax_of), jnp.array([0.3, -jnp.inf, 1.0])),
}  # fmt: skip
KINKS = ("relu", "the other relu", "half of relu", "absolute", "relu of mixed signs", "penalty", "first of ties")


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.usefixtures("jax_as_it_comes")
def test_right_at_the_given_input(name):
    rule, x = RIGHT[name]
    report = v.verify(rule, x)
    assert report.ok, report
    given = [text for text in report.findings if "at the given input" in text]
    if name in KINKS and name != "absolute":  # whose subgradient autodiff takes too
        assert any("has a kink" in text for text in given), report.findings
    if name == "smooth":
        zeros = [f"autodiff is wrong: dx[{i}]" for i in np.flatnonzero(np.asarray(x) == 0)]
        assert any(start in text for start in zeros for text in given), report.findings


WRONG = {
    "twice at the kink": (ruled(relu, lambda x, d: (d * jnp.where(x == 0, 2.0, x > 0),)), GIVEN, "x == 0"),
    "all of the ties": (ruled(largest, lambda x, d: (d * (x == x.max()),)), ONES, "x == x.max()"),
    "all of the smallest relus": (smallest_relu(1.0), jnp.zeros(6), None),
    "all of the tied medians": (ruled(median, lambda x, d: (d * (x == median(x)),)), TIED, "x == median(x)"),
    "penalty": (ruled(penalised, lambda w, d: (
        d * (2 * DATA.T @ (DATA @ w) + 0.1 * jnp.where(w == 0, 2.0, jnp.sign(w))),)), jnp.zeros(3), "w == 0"),
    "a product by division": (ruled(product, lambda x, d: (d * jnp.prod(x) / x,)), jnp.array([0.5, 0.0, 2.0, 1.5]),
                              "/ x"),
    "as autodiff, wrong": (ruled(log_sigmoid, log_sigmoid_as_autodiff), GIVEN, None),
    "masked": (ruled(logsumexp, lambda x, d: (d * (x * jnp.exp(x) / jnp.exp(x).sum() / x),)),
               jnp.array([0.3, -jnp.inf, 1.0]), "/ x"),
    "another special value": (ruled(jnp.sin, lambda x, d: (d * jnp.where(x == 0.5, 0.0, jnp.cos(x)),)),
                              jnp.array([0.5, 1.0]), "x == 0.5"),
}  # fmt: skip


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.usefixtures("jax_as_it_comes")
def test_wrong_at_the_given_input_alone(name):
    rule, x, text = WRONG[name]
    report = v.verify(rule, x)
    assert report.verdict is v.Verdict.REFUTED, report
    assert report.counterexample is not None
    assert (np.asarray(dict(report.counterexample.inputs)["x" if name != "penalty" else "w"]) == np.asarray(x)).all()
    assert report.internal == (), report
    if text is not None:
        assert report.location is not None, report
        start, _ = report.location.columns
        assert text in report.location.text
        assert report.diagnosis is not None
        assert start > 0


AT_EDGES = {
    "a product by division": (ruled(product, lambda x, d: (d * jnp.prod(x) / x,)), X, "first appears here"),
    "saturated": (ruled(jax.nn.softplus, lambda x, d: (d * jnp.where(x > 30, 0, jax.nn.sigmoid(x)),)), X, ""),
    "at zero": (ruled(lambda x: x**3, lambda x, d: (d * jnp.where(x == 0, 1, 3 * x * x),)), X, "at this input alone"),
}  # fmt: skip


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", AT_EDGES)
@pytest.mark.usefixtures("jax_as_it_comes")
def test_edge_cases_that_refute_have_a_line_and_a_cause(name):
    rule, x, cause = AT_EDGES[name]
    report = v.verify(rule, x)
    assert report.verdict is v.Verdict.REFUTED, report
    assert report.location is not None
    assert report.diagnosis is not None
    assert cause in report.diagnosis


def test_a_division_is_no_fault_where_zero_is_no_input_that_was_given():
    power = ruled(lambda x: x**2.5, lambda x, d: (d * 2.5 * x**2.5 / x,))
    report = v.verify(power, jnp.abs(X) + 0.5)
    assert report.ok, report
    assert any("at zeros" in text for text in report.findings), report.findings


def masked_to_zero(x):
    top = jnp.where(jnp.isfinite(x.max()), x.max(), 0.0)
    total = jnp.exp(x - top).sum()
    return jnp.where(total > 0, top + jnp.log(jnp.where(total > 0, total, 1.0)), 0.0)


def test_another_value_at_minus_infinity():
    rule = jax.custom_vjp(logsumexp)
    rule.defvjp(lambda x: (masked_to_zero(x), x), softmax_of)
    report = v.verify(rule, X)
    assert report.verdict is v.Verdict.REFUTED, report
    assert "minus infinity" in report.reason
    assert report.counterexample is not None
    assert report.counterexample.replay() == (0.0, -np.inf)
    assert report.location is not None


def plain(x):
    return 1 / (1 + jnp.abs(jnp.log(jnp.exp(x) + jnp.exp(jax.nn.relu(x)))))


def stable(x):
    return 1 / (1 + jnp.abs(jnp.logaddexp(x, jax.nn.relu(x))))


@pytest.mark.parametrize(("f", "g", "says"), [(plain, stable, "does not"), (stable, plain, "not the one by hand")])
def test_overflow_is_a_finding_of_its_own(f, g, says):
    report = v.equivalent(f, g, X)
    assert report.verdict is v.Verdict.PROVED, report
    assert report.fix is None
    found = [text for text in report.findings if "range" in text]
    assert len(found) == 1
    assert says in found[0]
    assert "7e+02" in found[0]


def test_overflow_beside_an_infinity_that_belongs_there():
    """The exponential of minus infinity is 0; that of a million is out of range all the same."""

    def summed(x):
        return jnp.log(jnp.sum(jnp.exp(jnp.concatenate([x, jnp.array([-jnp.inf])]))))

    report = v.equivalent(summed, lambda x: jax.nn.logsumexp(x), X, skip=["repair"])
    assert report.verdict is v.Verdict.PROVED and not report.internal, report
    assert any("range" in text for text in report.findings)


def quotient(x):
    return jnp.tanh(jnp.where(jax.nn.relu(x) == 0, jnp.sqrt(jnp.exp(x)) / jnp.exp(x), x))


def clipped(x):
    return jnp.clip(jnp.log(1 / jnp.exp(-x.sum()) + jnp.exp(jnp.clip(x, -1, 1))), 0, 6)


@pytest.mark.sweep
@pytest.mark.parametrize(("f", "g", "x"), [
    # Equation by equation exp(-741) is 0, and compiled it is a denormal number.
    (quotient, lambda x: jnp.tanh(jnp.where(x <= 0, jax.lax.rsqrt(jnp.exp(x)), x)),
     jnp.array([2.0, 1.9, -1.835]) * 1e6),
    # Scaled to entries of size 1, this input has a kink.
    (jax.grad(lambda x: clipped(x).sum()),
     jax.grad(lambda x: jnp.clip(jnp.logaddexp(x.sum(), jnp.clip(x, -1, 1)), 0, 6).sum()),
     jnp.array([2.0, -1.5, 1.7]) * 1e6),
])  # fmt: skip
def test_overflow_that_sets_in_beside_other_things(f, g, x):
    report = v.equivalent(f, g, x, skip=["repair"])
    assert report.verdict is not v.Verdict.REFUTED, report
    assert any("at the given input" in text and "range" in text for text in report.findings), report.findings


def of_ones(x):
    """Entries of x of which the cosine is not positive, of others 0."""
    return (jnp.cos(x) <= 0).astype(x.dtype)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("hand", "right"), [
    (lambda x: of_ones(x) * (1 / (1 / jnp.log1p(jnp.exp(x)))), True),
    (lambda x: of_ones(x) * jnp.where(x < 300, jax.nn.softplus(x), jnp.inf), False),
])  # fmt: skip
@pytest.mark.parametrize("key", range(3))
def test_nan_of_an_infinity_that_large_numbers_make(hand, right, key):
    """Zero times infinity, at those sizes at which the mask is zero; an infinity in the text is no matter of range."""
    x = jax.random.normal(jax.random.key(key), (2, 3))
    report = v.equivalent(hand, lambda x: of_ones(x) * jax.nn.softplus(x), x, key=key, skip=["repair"])
    assert (report.verdict is not v.Verdict.REFUTED) is right, report


@pytest.mark.sweep
def test_overflow_at_the_given_input():
    naive = ruled(logsumexp, lambda x, d: (d * jnp.exp(x) / jnp.exp(x).sum(),))
    report = v.verify(naive, jnp.array([1000.0, 3.0, -2.0]))
    assert report.verdict is not v.Verdict.REFUTED, report
    assert any("at the given input" in text and "range" in text for text in report.findings), report.findings


def test_another_function_for_large_numbers_is_no_overflow():
    other = ruled(
        lambda x: jnp.exp(-x * x), lambda x, d: (jnp.where(jnp.abs(x) > 1e3, d, -2 * x * jnp.exp(-x * x) * d),)
    )
    assert v.verify(other, X, skip="repair").verdict is v.Verdict.REFUTED


def rooted(x):
    return jnp.sqrt(x * x + 1e-3)


@pytest.mark.sweep
def test_an_accuracy_that_is_stated():
    near = ruled(rooted, lambda x, d: (d * x / (rooted(x) + 1e-10),))
    refuted = v.verify(near, X)
    assert refuted.verdict is v.Verdict.REFUTED
    assert any("the largest relative error is" in text and "e-09" in text for text in refuted.findings)
    held = v.verify(near, X, accuracy=1e-8)
    assert held.verdict is v.Verdict.VERIFIED, held
    assert held.conditions == ("a relative error of 1e-08 is allowed, as stated",)
    assert "provided a relative error of 1e-08 is allowed" in " ".join(str(held).split())
    assert v.verify(near, X, accuracy=1e-12, skip="repair").verdict is v.Verdict.REFUTED
    exact = v.verify(ruled(rooted, lambda x, d: (d * x / rooted(x),)), X, accuracy=1e-8)
    assert exact.verdict is v.Verdict.PROVED
    assert exact.conditions == ()
    with pytest.raises(ValueError, match="accuracy must be a relative error"):
        v.verify(near, X, accuracy=-1.0)


def test_a_proof_that_floats_contradict_refutes_and_is_recorded(monkeypatch):
    def believed(problem, options):
        return v.Check("proof", v.Outcome.PROVES, "as this test says")

    judged = importlib.import_module("handprop.verifier.verdict")
    rungs = tuple((name, believed if name == "proof" else rung) for name, rung in judged.CHECKS)
    monkeypatch.setattr(judged, "CHECKS", rungs)
    report = v.verify(ruled(lambda x: x**3, lambda x, d: (2 * d * x * x,)), X)
    assert report.verdict is v.Verdict.REFUTED, report
    assert any("contradict each other" in text for text in report.internal), report.internal
    assert report.location is not None
    assert report.fix is not None and report.fix.proved


@pytest.mark.usefixtures("jax_as_it_comes")
def test_ties_that_nobody_gave_are_said_and_refute_nothing():
    report = v.verify(ruled(largest, lambda x, d: (d * (x == x.max()),)), X)
    assert report.verdict is v.Verdict.PROVED, report
    assert any("dx by hand is not a subgradient" in text for text in report.findings), report.findings


def soft_permutation(x):
    return jax.nn.softmax(-jnp.abs(-jnp.sort(-x)[:, None] - x[None]) / 0.3, -1)


def soft_sorted(x, d, at_a_tie=0.0):
    order, p = jnp.argsort(-x), soft_permutation(x)
    dp = d[:, None] * x[None]
    gap = x[order][:, None] - x[None]
    side = jnp.where(gap == 0, at_a_tie, jnp.sign(gap)) * (1 - jnp.eye(3)[order])
    dgap = -p * (dp - (p * dp).sum(-1, keepdims=True)) / 0.3 * side
    return ((p.T @ d - dgap.sum(0)).at[order].add(dgap.sum(1)),)


@pytest.mark.sweep
def test_where_autodiff_is_no_nearer_the_rule_is_not_refuted():
    """At ties the derivative of a softened sort is no subgradient by hand, and further from one by autodiff."""
    soft_sort = lambda x: soft_permutation(x) @ x  # noqa: E731
    report = v.verify(ruled(soft_sort, soft_sorted), jnp.array([0.126, -0.132, 0.64]))
    assert report.ok and any("is not a subgradient" in text for text in report.findings), report
    worse = v.verify(ruled(soft_sort, lambda x, d: soft_sorted(x, d, at_a_tie=50.0)), jnp.array([0.126, -0.132, 0.64]))
    assert worse.verdict is v.Verdict.REFUTED, worse


@pytest.mark.sweep
def test_a_subgradient_of_a_function_that_is_not_known():
    """Where six numbers are zero, min(relu(x)) has a slope towards positive numbers alone, in the least of them; a
    gradient that is given as a function does not say of what."""
    by_jax = jax.grad(lambda x: jnp.min(jax.nn.relu(x)))
    x = jnp.array([[0.4, 0.9, 1.2], [0.7, 2.0, 0.3]])
    for at in np.ndindex(2, 3):
        report = v.equivalent(lambda x, at=at: by_jax(x).at[at].add(jnp.where((x == 0).all(), 0.5, 0.0)), by_jax, x,
                              skip=["repair"])  # fmt: skip
        assert report.ok and any("the reference jumps there" in text for text in report.findings), report


def test_a_slope_that_only_the_reference_has_at_infinity():
    """JAX's ``logaddexp(inf, y)`` has the slope ``e^y`` in y, and 0 for every large number in the place of infinity."""

    def plain(x, y):
        return jnp.sum(-x + jax.nn.softplus(y + x))

    def by_jax(x, y):
        return jnp.sum(jnp.logaddexp(-x, y))

    x, y = jnp.array([0.3, -0.7, 1.2]), jnp.array([0.5, 0.1, -0.4])
    right, shared = jax.grad(plain, 1), jax.grad(by_jax, 1)
    report = v.equivalent(right, shared, x, y, skip=["repair"])
    assert report.verdict is v.Verdict.PROVED, report
    assert any("both tend to" in text for text in report.findings), report.findings
    assert v.equivalent(shared, right, x, y, skip=["repair"]).verdict is v.Verdict.REFUTED


def test_a_jump_of_the_reference_at_an_infinite_input_is_no_mistake():
    """At minus infinity the logit is 0, where autodiff of ``relu(z)`` has a value of its own."""

    def loss(w, b):
        z = jax.nn.sigmoid(w) * 3.0 + b
        return jax.nn.relu(z) - z * 0.3 + jnp.log1p(jnp.exp(-jnp.abs(z)))

    def hand(w, b):
        a = jax.nn.sigmoid(w)
        dz = jax.nn.sigmoid(3.0 * a + b) - 0.3
        return 3.0 * dz * a * (1 - a), dz

    report = v.equivalent(hand, jax.grad(loss, argnums=(0, 1)), jnp.float32(-0.4), jnp.float32(0.0))
    assert report.ok, report


@pytest.mark.thinned(3)
@pytest.mark.usefixtures("jax_as_it_comes")
@pytest.mark.parametrize(("f", "g"), [
    (lambda x: jnp.where(jnp.tanh(x) < 1, x, 7), lambda x: 1 * x),
    (lambda x: jnp.where(x + 1 > x, x, 7), lambda x: 1 * x),
    (lambda x: jnp.where(jnp.exp(x) + 1 > 1, x, 7), lambda x: 1 * x),
    (lambda x: jnp.where(jnp.exp(x) == 0, 0, 1 / jnp.exp(x)), lambda x: jnp.exp(-x)),
    (lambda x: jnp.where(jax.nn.softmax(x) > 0, x, 7), lambda x: 1 * x),
    (jax.grad(jnp.max), lambda x: jax.nn.one_hot(jnp.argmax(x), 3)),
])  # fmt: skip
def test_what_large_numbers_do_is_no_mistake_at_infinity(f, g):
    """Rounding, ties and overflow are the same there as at numbers that are large enough."""
    report = v.equivalent(f, g, jnp.array([-0.28, 0.516, 0.617]), skip=["repair"])
    assert report.ok and report.findings, report


@pytest.mark.parametrize(("f", "g"), [
    (lambda x: jnp.where(jnp.isfinite(x), x, 7), lambda x: 1 * x),
    (lambda x: jnp.where(x.max() == -jnp.inf, 0, jax.nn.logsumexp(x)), jax.nn.logsumexp),
])  # fmt: skip
def test_what_infinity_alone_does_is_a_mistake(f, g):
    report = v.equivalent(f, g, jnp.array([-0.28, 0.516, 0.617]), skip=["repair"])
    assert report.verdict is v.Verdict.REFUTED and "infinity in" in report.reason, report


@pytest.mark.parametrize("at", [0.0, 1.5])
def test_a_kink_of_a_single_number(at):
    size = jax.custom_jvp(jnp.abs)
    size.defjvp(lambda x, d: (jnp.abs(x[0]), jnp.where(x[0] > 0, 1.0, -1.0) * d[0]))
    report = v.verify(size, jnp.float32(at))
    assert report.verdict is v.Verdict.PROVED and not report.internal, report
    assert any("a different subgradient" in finding for finding in report.findings)


MASK = np.array([1, 0, 0, 1, 1, 0], np.float32)
JUMPS = {  # by name: the function, which jumps at the arguments, its gradient as it is right and wrong, the arguments
    "a mask of floats": (
        lambda x, m: jnp.where(m, x, 0.0) / 0.6, lambda x, m, d: d * m / 0.6, lambda x, m, d: d / 0.6, (X, MASK),
    ),
    "a threshold": (
        lambda x, t: jnp.where(t >= 0, x * x, x), lambda x, t, d: d * jnp.where(t >= 0, 2 * x, 1.0),
        lambda x, t, d: d * jnp.where(t > 0, 2 * x, 1.0), (X, np.zeros(6, np.float32)),
    ),
    "a step": (
        lambda x, t: x * jnp.floor(t), lambda x, t, d: d * jnp.floor(t), lambda x, t, d: d * (jnp.ceil(t) - 1),
        (X, MASK),
    ),
}  # fmt: skip


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", JUMPS)
def test_where_the_function_jumps_each_slope_is_that_along_its_input_alone(name):
    f, right, wrong, args = JUMPS[name]

    held = lambda gradient: ruled(f, lambda *a: (gradient(*a), None))  # noqa: E731
    assert v.verify(held(right), *args).ok, v.verify(held(right), *args)
    assert v.verify(held(wrong), *args, skip="repair").verdict is v.Verdict.REFUTED, v.verify(held(wrong), *args)


def test_a_number_that_is_lost_within_a_loop_is_located_there():
    def divided(x, d):
        return (d * jax.lax.scan(lambda c, xi: (c, c / xi), jnp.prod(x), x)[1],)

    report = v.verify(ruled(product, divided), jnp.array([1.0, 0.0, 2.0]))
    assert report.verdict is v.Verdict.REFUTED and report.location is not None, report
    assert "c / xi" in report.location.text and "NaN first appears here: 0 / 0" in str(report), report
