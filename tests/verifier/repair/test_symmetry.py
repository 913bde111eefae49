"""What a hand-written gradient says by itself: its Jacobian is symmetric, is not, or says nothing."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handprop
from handprop.verifier import derivatives

RNG = np.random.default_rng(0)
ALONE = ("identical", "proof", "finite_differences", "transformations", "edge_cases")


@pytest.fixture(autouse=True)
def too_many_entries_for_differences(monkeypatch):
    """As in larger functions, which have no reference."""
    monkeypatch.setattr(derivatives, "MAX_ESTIMATED", 0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), np.float32)


def opaque(x):
    return jax.pure_callback(np.asarray, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def loss(w, v, x):
    """Autodiff cannot see through it; which function it is decides nothing here."""
    return opaque(jnp.sum(jnp.tanh(x @ w) @ v))


def network(activation, slope, error):
    def gradient(w, v, x):
        h = activation(x @ w)
        d = error(h @ v)
        return x.T @ ((d @ v.T) * slope(h)), h.T @ d

    return gradient


def relu(z):
    return jnp.maximum(z, 0)


def step(h):
    return jnp.where(h > 0, 1.0, 0.0)


W, V, X = normal(3, 4), normal(4, 2), normal(5, 3)
Y = jnp.asarray([1.0, 0, 1, 1, 0])
CASES = {
    "tanh": (network(jnp.tanh, lambda h: 1 - h * h, jnp.ones_like), (W, V, X), True),
    "another loss": (network(jnp.tanh, lambda h: 1 - h * h, lambda y: 7 * y), (W, V, X), True),
    "one in a million": (network(jnp.tanh, lambda h: 1 - 1.000001 * h * h, jnp.ones_like), (W, V, X), False),
    "relu": (network(relu, step, lambda y: y), (W, V, X), True),
    "relu at zero": (network(relu, step, lambda y: y), (0 * W, V, X), True),
    "relu with another slope": (network(relu, lambda h: step(h) + h, lambda y: y), (W, V, X), False),
    "data of 0 and 1": (lambda w, y: y * jnp.sum(y * y * w), (normal(5), Y), True),
    "softmax": (lambda z: jax.nn.softmax(z) - 0.5, (normal(5),), True),
    "a stop_gradient": (lambda w: 2 * w * jax.lax.stop_gradient(jnp.sum(w * w)), (normal(5),), True),
    "softmax times one logit": (lambda z: jax.nn.softmax(z) * z[0], (normal(5),), False),
}  # fmt: skip


def unjudged(hand, *args, **options):
    """The report of a gradient whose function has no derivative."""
    argnums = (0, 1) if len(args) == 3 else 0
    report = handprop.verify_gradient(hand, lambda *args: opaque(sum(a.sum() for a in args)), *args,
                                      argnums=argnums, **options)  # fmt: skip
    assert report.verdict is handprop.Verdict.INCONCLUSIVE
    assert "jax.grad of the loss fails" in report.reason
    assert handprop.Report.from_json(report.to_json()) == report
    return report


def jacobian(hand, args):
    """All of it, in float64, at a point off every kink."""
    with jax.enable_x64(True):
        count = 2 if len(args) == 3 else 1
        wide = [jnp.asarray(np.asarray(a, np.float64)) for a in args]
        sizes = np.cumsum([a.size for a in wide[:count]])[:-1]

        def flat(x):
            parts = [p.reshape(a.shape) for p, a in zip(jnp.split(x, sizes), wide, strict=False)]
            return jnp.concatenate([g.ravel() for g in jax.tree.leaves(hand(*parts, *wide[count:]))])

        return np.asarray(jax.jit(jax.jacfwd(flat))(jnp.asarray(RNG.normal(size=sum(a.size for a in wide[:count])))))


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", CASES)
def test_it_is_what_the_whole_jacobian_is(name):
    hand, args, symmetric = CASES[name]
    whole = jacobian(hand, args)
    assert np.allclose(whole, whole.T, rtol=0, atol=1e-9 * np.abs(whole).max()) is symmetric
    said = unjudged(hand, *args, skip=("proof",)).diagnosis
    assert said is not None
    assert said.startswith("its Jacobian is symmetric" if symmetric else "its Jacobian J is not symmetric (u.Jv = ")
    assert ("it is the gradient of no function" in said) is not symmetric


def test_numbers_that_the_text_makes_float32_are_read_as_written():
    report = unjudged(lambda w: jnp.stack([w[1] * np.float32(0.1).astype(w.dtype), w[0] * 0.1]), normal(2))
    assert report.diagnosis.startswith("its Jacobian is symmetric")


@pytest.mark.parametrize("seed", range(4))
def test_two_entries_that_depend_on_each_other_are_seen_to(seed):
    report = unjudged(lambda w: jnp.stack([w[0] * w[1] ** 2, w[0] ** 2 * w[1]]), normal(2), key=seed, skip="proof")
    assert report.diagnosis is not None and report.diagnosis.startswith("its Jacobian is symmetric")


def test_the_value_may_come_with_it_and_have_no_derivative():
    hand, args, _ = CASES["one in a million"]
    report = handprop.verify_gradient(lambda *a: (loss(*a), hand(*a)), loss, *args, argnums=(0, 1))
    assert "not symmetric" in report.diagnosis


def test_the_proof_is_what_makes_it_exact():
    hand, args, _ = CASES["tanh"]
    assert "rounding" not in unjudged(hand, *args).diagnosis
    assert "to float64 rounding at 3 points" in unjudged(hand, *args, skip=("proof",)).diagnosis


NOTHING = {
    "each entry alone": lambda w: jnp.cosh(w) ** 3,
    "a slope that is zero": lambda w: jnp.where(w.sum() > 0, 1.0, 0.0) * jnp.ones_like(w),
    "no derivative either": lambda w: opaque(w) * w.sum(),
    "another shape": lambda w: w[1:] * w.sum(),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_is_said_where_it_says_nothing(name):
    assert unjudged(NOTHING[name], normal(6)).diagnosis is None


def test_nothing_is_said_of_one_number_or_where_it_is_left_out():
    assert unjudged(lambda w: w**3, normal()).diagnosis is None
    assert unjudged(lambda w: w[0] * w, normal(4), skip=("repair",)).diagnosis is None


def ruled(backward):
    rule = jax.custom_vjp(lambda x: opaque(x.sum() ** 2))
    rule.defvjp(lambda x: (opaque(x.sum() ** 2), x), lambda x, d: (backward(x, d),))
    return rule


@pytest.mark.parametrize(("backward", "symmetric"), [
    (lambda x, d: 2 * d * jnp.full_like(x, x.sum()), True),
    (lambda x, d: 2 * d * x * x.sum(), False),
])  # fmt: skip
def test_rules_too(backward, symmetric):
    report = handprop.verify(ruled(backward), normal(4))
    assert report.verdict is handprop.Verdict.INCONCLUSIVE
    assert ("not symmetric" in report.diagnosis) is not symmetric


def test_a_refuted_gradient_without_a_cause_says_it_too(monkeypatch):
    explain = importlib.import_module("handprop.verifier.repair.explain")
    monkeypatch.setattr(explain, "SECONDS", 0.0)  # of the search for an edit
    monkeypatch.setattr(explain, "shrunk", lambda problem: None)

    def refuted(hand):
        report = handprop.verify_gradient(hand, lambda w: jnp.sum(w**5), normal(4), skip=ALONE)
        assert report.verdict is handprop.Verdict.REFUTED
        assert max(map(len, str(report).splitlines())) <= 80
        return report.diagnosis

    said = refuted(lambda w: w**2 * w.sum())
    assert said.startswith("no known cause fits; its Jacobian J is not symmetric (u.Jv = ")
    assert said.endswith("it is the gradient of no function, a slip is inside")
    said = refuted(lambda w: w * jnp.sum(w * w))
    assert said.startswith("no known cause fits; its Jacobian is symmetric")
    assert said.endswith("a factor or the function is another")
