"""Domains: their maps, what is proved along them and refuted inside them, and what is found of given values."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jax.nn import log_softmax, softmax
from selecting import all_but

import handprop as v
from handprop.verifier.seen_domains import domains_of

d = v.domains
PROOF = all_but("structure", "identical", "proof")
FEW = all_but("structure", "proof", "rounding")
SAMPLED = all_but("structure", "rounding")


def normal(*shape, k=0):
    return np.random.default_rng([k, *shape]).normal(size=shape).astype(np.float32)


def mirrored(A):
    return (A + A.T) / 2


X, Z = normal(3), normal(2, 3)
P = np.asarray(softmax(jnp.asarray(normal(2, 3, k=1))))
Y = np.eye(3, dtype=np.float32)[[2, 0]]
SYMMETRIC = mirrored(normal(3, 3))
DEFINITE = normal(2, 2) @ normal(2, 2).T + np.eye(2, dtype=np.float32)
ORTHONORMAL = np.linalg.qr(normal(3, 2))[0]
UNIT = X[::-1] / np.linalg.norm(X)
RISING = np.array([-0.3, 0.2, 0.9, 1.4, 2.5], np.float32)


def cross_entropy(z, y):
    return -jnp.sum(y * log_softmax(z))


def error(z, y):
    return softmax(z) - y


def determinant(A):
    return A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0]


def adjugate(A):
    return jnp.stack([A[1, 1], -A[0, 1], -A[1, 0], A[0, 0]]).reshape(2, 2)


def circle(t):
    return jnp.stack([jnp.cos(t), jnp.sin(t)])


def turned(x, c):
    return jnp.sum((x[0] * c[0] - x[1] * c[1]) ** 2 + (x[0] * c[1] + x[1] * c[0]) ** 2) / 2


# By name: the domains, loss, gradient by hand that is right inside them only, one that is wrong there, arguments.
ALONG = {
    "sum_to_one": ({"y": d.sum_to_one()}, cross_entropy, error, lambda z, y: softmax(z) + y, (Z, P)),
    "simplex": ({1: d.simplex()}, cross_entropy, error, lambda z, y: softmax(z) - 2 * y, (Z, P)),
    "simplex, its own gradient": (
        d.simplex(), lambda p: jnp.sum(p * jnp.log(p)), jnp.log, lambda p: 2 * jnp.log(p), (P,),
    ),
    "one_hot": (
        {"y": d.one_hot()}, lambda z, y: cross_entropy(z, y * y), error, lambda z, y: softmax(z) * y - y, (Z, Y),
    ),
    "one_hot columns": (
        {"y": d.one_hot(-2)}, lambda z, y: cross_entropy(z.T, y.T * y.T), lambda z, y: softmax(z, 0) - y,
        lambda z, y: softmax(z, 1) - y, (Z.T, Y.T),
    ),
    "positive": (d.positive(), lambda x: jnp.sum(jnp.abs(x) ** 3), lambda x: 3 * x * x, lambda x: x * x, (abs(X),)),
    "positive, of another": (
        {"s": d.positive()}, lambda x, s: jnp.sum(x * jnp.abs(s)), lambda x, s: s, lambda x, s: -s, (X, abs(X)),
    ),
    "integers": (
        {"n": d.integers()}, lambda x, n: jnp.sum(x * (n - jnp.floor(n) + 1)), lambda x, n: jnp.ones_like(x),
        lambda x, n: n, (X, np.array([1, 2, 4], np.float32)),
    ),
    "symmetric": ({"A": d.symmetric()}, lambda x, A: x @ A @ x, lambda x, A: 2 * A @ x, lambda x, A: A @ x,
                  (X, SYMMETRIC)),
    "symmetric, its own gradient": (
        {"A": d.symmetric()}, lambda A: jnp.sum(A * (A @ A)), lambda A: 3 * A @ A, lambda A: 2 * A @ A, (SYMMETRIC,),
    ),
    "positive_definite": (
        {"A": d.positive_definite()}, lambda A: jnp.log(jnp.abs(determinant(A))),
        lambda A: adjugate(A) / (A[0, 0] * A[1, 1] - A[0, 1] ** 2), lambda A: adjugate(A), (DEFINITE,),
    ),
    "orthogonal": (
        {"Q": d.orthogonal()}, lambda x, Q: jnp.sum((Q @ x) ** 2) / 2, lambda x, Q: x, lambda x, Q: 2 * x,
        (X[:2], ORTHONORMAL),
    ),
    "unit": (
        {"u": d.unit()}, lambda x, u: jnp.sum((x - u * (u @ x)) ** 2) / 2, lambda x, u: x - u * (u @ x),
        lambda x, u: x - u, (X, UNIT),
    ),
    "unit, its own gradient": (
        {"u": d.unit()}, lambda u, a: jnp.sum(u * u) * (a @ u), lambda u, a: a, lambda u, a: a * a,
        (UNIT, normal(3, k=2)),
    ),
    "boolean": (
        {"m": d.boolean()}, lambda x, m: jnp.sum((m * x) ** 2) / 2, lambda x, m: m * x, lambda x, m: x,
        (X, np.array([1, 0, 1], np.float32)),
    ),
    "signs": (
        {"y": d.signs()}, lambda s, y: jnp.sum((1 - y * s) ** 2) / 2, lambda s, y: s - y, lambda s, y: s + y,
        (X, np.array([1, -1, 1], np.float32)),
    ),
    "image": ({"c": d.image(circle, np.float32(0.4))}, turned, lambda x, c: x, lambda x, c: 2 * x,
              (X[:2], np.asarray(circle(0.4)))),
}  # fmt: skip
# Right inside, and the field has no relation that says so.
ONLY_VERIFIED = {
    "interval": (
        d.interval(-0.5, 3), lambda x: jnp.sum(jnp.clip(x, -0.5, 3) ** 2) / 2, lambda x: x, lambda x: x * x, (RISING,),
    ),
    "increasing": (
        {"t": d.increasing()}, lambda x, t: jnp.sum(x * jnp.abs(jnp.diff(t))), lambda x, t: jnp.diff(t),
        lambda x, t: -jnp.diff(t), (normal(4), RISING),
    ),
    "increasing, its own gradient": (
        {"t": d.increasing()}, lambda t: jnp.sum(jnp.abs(jnp.diff(t))),
        lambda t: jnp.zeros_like(t).at[0].set(-1).at[-1].set(1), lambda t: jnp.zeros_like(t).at[0].set(1).at[-1].set(1),
        (RISING,),
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def loose(jax_as_it_comes):
    """Losses are written as people write them."""


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", ALONG)
def test_what_holds_inside_only_is_proved_there(name):
    domain, loss, hand, _, args = ALONG[name]
    report = v.verify_gradient(hand, loss, *args, domain=domain, skip=PROOF)
    assert report.verdict is v.Verdict.PROVED, report
    assert len([c for c in report.conditions if not c.startswith("the argument of ")]) == 1


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["symmetric, its own gradient", "one_hot"])
def test_no_check_contradicts_what_is_proved_inside(name):
    domain, loss, hand, _, args = ALONG[name]
    assert v.verify_gradient(hand, loss, *args, domain=domain).verdict is v.Verdict.PROVED


@pytest.mark.parametrize("name", ONLY_VERIFIED)
def test_what_holds_inside_only_is_verified_there(name):
    domain, loss, hand, _, args = ONLY_VERIFIED[name]
    report = v.verify_gradient(hand, loss, *args, domain=domain, skip=SAMPLED)
    assert report.ok, report


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", [*ALONG, *ONLY_VERIFIED])
def test_what_is_wrong_inside_is_refuted_with_the_argument_itself(name):
    domain, loss, _, wrong, args = {**ALONG, **ONLY_VERIFIED}[name]
    report = v.verify_gradient(wrong, loss, *args, domain=domain, skip=SAMPLED)
    assert report.verdict is v.Verdict.REFUTED, report
    assert report.counterexample is not None
    (key,) = domain if isinstance(domain, dict) else (0,)
    shown = dict(report.counterexample.inputs)
    argument = shown[key] if isinstance(key, str) else list(shown.values())[key]
    one = domain[key] if isinstance(domain, dict) else domain
    assert not one.lacks(argument, 1e-12) or name == "image"
    np.testing.assert_allclose(argument.shape, args[list(shown).index(key) if isinstance(key, str) else key].shape)
    got, want = report.counterexample.replay()
    assert (got, want) == (report.counterexample.worst.got, report.counterexample.worst.want)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", [*ALONG, *ONLY_VERIFIED])
def test_all_numbers_refute_what_holds_inside_only(name):
    _, loss, hand, _, args = {**ALONG, **ONLY_VERIFIED}[name]
    report = v.verify_gradient(hand, loss, *args, domain="any", skip=SAMPLED)
    assert report.verdict is v.Verdict.REFUTED, report
    assert report.conditions == ()


KINDS = {
    "sum_to_one": (d.sum_to_one(), (2, 3)),
    "sum_to_one columns": (d.sum_to_one(-2), (2, 3)),
    "simplex": (d.simplex(), (2, 3)),
    "one_hot": (d.one_hot(), (3, 5)),
    "one_hot columns": (d.one_hot(0), (5, 3)),
    "one place": (d.one_hot(), (3, 1)),
    "positive": (d.positive(), (4,)),
    "interval": (d.interval(-2.0, 0.5), (4,)),
    "boolean": (d.boolean(), (4,)),
    "signs": (d.signs(), (4,)),
    "symmetric": (d.symmetric(), (2, 3, 3)),
    "positive_definite": (d.positive_definite(), (2, 3, 3)),
    "orthogonal": (d.orthogonal(), (2, 3, 3)),
    "tall orthogonal": (d.orthogonal(), (4, 2)),
    "unit": (d.unit(), (3, 2)),
    "increasing": (d.increasing(), (2, 4)),
    "increasing columns": (d.increasing(0), (4, 2)),
}


@pytest.mark.parametrize("name", KINDS)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 3.0]))
def test_maps_land_in_their_domain_and_are_inverted(name, seed, scale):
    domain, shape = KINDS[name]
    with jax.enable_x64(True):
        free = scale * np.random.default_rng(seed).normal(size=shape)
        if name.startswith("orthogonal"):
            assume(np.linalg.cond(free).max() < 1e3)  # Gram and Schmidt's columns are orthogonal to eps times this
        x = np.asarray(domain.from_free(jnp.asarray(free)))
        if name.startswith("positive_definite"):
            assume(np.linalg.cond(x).max() < 1e9)  # beyond, float64 does not tell a definite matrix from a singular one
        again = np.asarray(domain.from_free(jnp.asarray(domain.to_free(np.asarray(x, np.float64)))))
    assert x.shape == shape
    assert domain.lacks(np.asarray(x, np.float64), 1e-12) == ""
    np.testing.assert_allclose(again.astype(float), x.astype(float), rtol=1e-12, atol=1e-12 * np.abs(x).max())


@pytest.mark.parametrize("places", [1, 2, 3, 4, 7, 8])
def test_every_place_is_chosen_by_some_free_parameters(places):
    x = np.eye(places)
    np.testing.assert_array_equal(d.one_hot().from_free(jnp.asarray(d.one_hot().to_free(x))), x)


# What is found of given values.


def classifier_loss(W, x, y):
    return cross_entropy(x @ W, y)


W, DATA = normal(2, 3), normal(4, 2)
LABELS = np.eye(3, dtype=np.float32)[[0, 2, 1, 0]]


@pytest.mark.parametrize("labels", [LABELS, np.asarray(softmax(jnp.asarray(normal(4, 3))))], ids=["one-hot", "shares"])
def test_softmax_cross_entropy_by_hand_is_proved_for_labels_that_sum_to_one(labels):
    report = v.verify_gradient(lambda W, x, y: x.T @ error(x @ W, y), classifier_loss, W, DATA, labels)
    assert report.verdict is v.Verdict.PROVED, report
    assert report.conditions == ("y has rows that sum to 1, as given",)
    assert str(report).splitlines()[0].endswith("provided y has rows that sum to 1, as given")
    assert report.findings[0].startswith("without this condition it fails: gradient[")


@pytest.mark.sweep
def test_labels_in_columns():
    def loss(p, x, y):
        return cross_entropy((p["w"] @ x + p["b"]).T, y.T) / x.shape[1]

    def hand(p, x, y, wrong=0):
        dz = (softmax(p["w"] @ x + p["b"], axis=0) - y) / x.shape[1]
        return {"w": dz @ x.T, "b": jnp.sum(dz * (x[:1] if wrong else 1), axis=1, keepdims=True)}

    p = {"w": W.T, "b": normal(3, 1)}
    report = v.verify_gradient(hand, loss, p, DATA.T, LABELS.T, skip=FEW)
    assert report.verdict is v.Verdict.PROVED, report
    assert report.conditions == ("y has columns that sum to 1, as given",)
    report = v.verify_gradient(lambda *a: hand(*a, wrong=1), loss, p, DATA.T, LABELS.T, skip=FEW)
    assert report.verdict is v.Verdict.REFUTED
    assert "gradient['w']" not in report.reason


def test_what_is_wrong_for_labels_that_sum_to_one_is_told_apart_from_what_is_not(time_enough):
    def hand(W, x, y):
        dz = 2 * error(x @ W, y)
        return x.T @ dz

    report = v.verify_gradient(hand, classifier_loss, W, DATA, LABELS, budget=90)
    assert report.verdict is v.Verdict.REFUTED
    assert report.fix is not None and report.fix.proved
    assert report.location is not None and "2 times what it should be" in report.location.reason


def test_a_structural_mistake_is_told_apart_from_labels(time_enough):
    def loss(p, x, y):
        return cross_entropy(x @ p["w"] + p["b"], y)

    def hand(p, x, y):
        dz = softmax(x @ p["w"] + p["b"]) - y
        db = jnp.sum(dz)
        return {"w": x.T @ dz, "b": db}

    report = v.verify_gradient(hand, loss, {"w": W, "b": normal(3)}, DATA, LABELS)
    assert report.verdict is v.Verdict.REFUTED
    assert report.location is not None and report.location.text.strip() == "db = jnp.sum(dz)"


def test_no_condition_where_the_rule_holds_for_all_numbers():
    def hand(W, x, y):
        z = x @ W
        return x.T @ (softmax(z) * jnp.sum(y, 1, keepdims=True) - y)

    report = v.verify_gradient(hand, classifier_loss, W, DATA, LABELS, skip=FEW)
    assert report.verdict is v.Verdict.PROVED and report.conditions == () and report.findings == ()


def ruled(primal, backward):
    rule = jax.custom_vjp(primal)
    rule.defvjp(lambda *args: (primal(*args), args), backward)
    return rule


def test_labels_that_are_differentiated_are_judged_in_all_directions():
    def dz(args, dy):
        return error(*args) * dy

    right = ruled(cross_entropy, lambda args, dy: (dz(args, dy), -log_softmax(args[0]) * dy))
    report = v.verify(right, Z, Y, skip=FEW)
    assert report.verdict is v.Verdict.PROVED, report
    assert report.conditions == ("y has rows that sum to 1, as given",)
    # One-hot labels have no directions, and yet no gradient is excused for them.
    silent = ruled(cross_entropy, lambda args, dy: (dz(args, dy), jnp.zeros_like(args[1])))
    report = v.verify(silent, Z, Y, skip=FEW)
    assert report.verdict is v.Verdict.REFUTED and report.reason.startswith("dy")
    # Differs from autodiff's along the ones alone, where the sum does not change: right along the simplex, wrong here.
    entropy = ruled(lambda p: jnp.sum(p * jnp.log(p)), lambda args, dy: (jnp.log(args[0]) * dy,))
    assert v.verify(entropy, P, skip=FEW).verdict is v.Verdict.REFUTED
    assert v.verify(entropy, P, skip=PROOF, domain=d.simplex()).verdict is v.Verdict.PROVED
    for options in ({"nondiff_argnums": (1,)}, {"domain": {"y": d.one_hot()}}):
        report = v.verify(silent, Z, Y, skip=FEW, **options)
        assert report.verdict is v.Verdict.PROVED, report


@pytest.mark.sweep
def test_second_order_within_what_is_given():
    silent = ruled(cross_entropy, lambda args, dy: (error(*args) * dy, jnp.zeros_like(args[1])))
    report = v.verify(silent, Z, Y, nondiff_argnums=1, order=2, budget=120, skip=FEW)
    assert report.verdict is v.Verdict.PROVED, report
    assert report.conditions == ("y has rows that sum to 1, as given",)


def copied_sign(x, y):
    return jnp.where(y < 0, -jnp.abs(x), jnp.abs(x))


BOTH_SIGNS, POSITIVE = np.array([-5, 2, -0.7, 1.1], np.float32), np.array([0.5, 2, 0.7, 1.1], np.float32)
COPIED = np.array([3, -0.5, -2, 1.3], np.float32)


def test_a_rule_wrong_for_negative_numbers():
    wrong = ruled(copied_sign, lambda args, dy: (dy * jnp.sign(args[1]), jnp.zeros_like(args[1])))
    assert v.verify(wrong, BOTH_SIGNS, COPIED, skip=FEW).verdict is v.Verdict.REFUTED
    report = v.verify(wrong, POSITIVE, COPIED, skip=FEW)
    assert report.verdict is v.Verdict.PROVED, report
    assert report.conditions == ("x is positive, as given",)
    assert report.findings[0].startswith("without this condition it fails: dx[")
    right = ruled(copied_sign, lambda a, dy: (dy * jnp.sign(a[0]) * jnp.where(a[1] < 0, -1, 1), jnp.zeros_like(a[1])))
    for x in (BOTH_SIGNS, POSITIVE):
        report = v.verify(right, x, COPIED, skip=FEW)
        assert report.verdict is v.Verdict.PROVED and report.conditions == (), report


def test_a_mask_of_floats_or_booleans():
    def dropped(x, mask):
        return jnp.sum((mask * x) ** 2) / 2

    for mask, dtype in ((np.array([1, 0, 1, 1, 0]), np.float32), (np.array([True, False, True, True, False]), bool)):
        args = normal(5), mask.astype(dtype)
        report = v.verify_gradient(lambda x, m: m * x, dropped, *args, skip=FEW)
        assert report.verdict is v.Verdict.PROVED, report
        booleans = "mask holds [True, False, True, True, False], as given"
        assert report.conditions == ("mask holds 0 and 1 only, as given" if dtype is np.float32 else booleans,)
        report = v.verify_gradient(lambda x, m: x, dropped, *args, skip=FEW)
        assert report.verdict is v.Verdict.REFUTED
        assert v.verify_gradient(lambda x, m: m * x, dropped, *args, domain={"mask": d.boolean()}, skip=FEW).ok
        report = v.verify_gradient(lambda x, m: x, dropped, *args, domain={"mask": d.boolean()}, skip=FEW)
        assert report.verdict is v.Verdict.REFUTED
        assert dict(report.counterexample.inputs)["mask"].dtype == (np.float64 if dtype is np.float32 else bool)


def test_what_holds_at_the_given_numbers_alone_is_not_excused_for_what_is_differentiated():
    doubled = ruled(lambda x: x * x, lambda args, dy: (2 * dy,))  # right at ones
    assert v.verify(doubled, np.ones(3, np.float32), skip=FEW).verdict is v.Verdict.REFUTED
    turned_round = ruled(lambda A: jnp.sum(A * A.T), lambda args, dy: (2 * args[0] * dy,))  # right at the identity
    assert v.verify(turned_round, np.eye(3, dtype=np.float32), skip=FEW).verdict is v.Verdict.REFUTED
    report = v.verify(turned_round, SYMMETRIC, skip=FEW)
    assert report.ok and report.conditions == ("A is symmetric, as given",)


def test_functions_that_differ_where_both_are_defined_are_two():
    assert v.equivalent(jnp.abs, lambda x: x, abs(X), skip=FEW).verdict is v.Verdict.REFUTED
    report = v.equivalent(lambda x, y: jnp.log(x) + jnp.log(y), lambda x, y: jnp.log(x * y), abs(X), abs(X), skip=FEW)
    assert report.ok and report.conditions[0] == "y is positive, as given", report
    assert all(c.startswith("the argument of log is positive") for c in report.conditions[1:])
    assert v.equivalent(jnp.abs, lambda x: x, abs(X), skip=FEW, domain=d.positive()).verdict is v.Verdict.PROVED


def test_two_arguments_that_are_needed_together_and_one_that_is_not():
    def loss(z, y, t, s):
        return cross_entropy(z, y) + cross_entropy(2 * z, t) + jnp.sum(s * z)

    def hand(z, y, t, s):
        return error(z, y) + 2 * error(2 * z, t) + s

    report = v.verify_gradient(hand, loss, Z, Y, Y[::-1], abs(Z), skip=FEW)
    assert report.verdict is v.Verdict.PROVED, report
    assert report.conditions == ("y has rows that sum to 1, as given", "t has rows that sum to 1, as given")
    report = v.verify_gradient(hand, loss, Z, Y, Y[::-1], abs(Z), skip=FEW, domain={"y": "any"})
    assert report.verdict is v.Verdict.REFUTED


def test_the_same_key_gives_the_same_report():
    reports = [v.verify_gradient(error, cross_entropy, Z, Y, key=3, skip=FEW) for _ in range(2)]
    assert reports[0] == reports[1]


FOUND = {
    "one-hot": (Y, ["sums", "one-hot"]),
    "shares": (P, ["sums", "positive", "between", "probabilities"]),
    "signs": (np.array([1.0, -1.0, 1.0]), ["signs"]),
    "zeros and ones": (np.array([1.0, 0.0, 1.0]), ["boolean"]),
    "integers": (np.array([3.0, -1.0, 0.0]), ["integers"]),
    "a mask": (np.array([[0.0, -np.inf], [0.0, 0.0]]), ["mask"]),
    "a finite mask": (np.array([[0.0, -1e9], [0.0, 0.0]]), ["mask"]),
    "rising": (RISING, ["increasing"]),
    "symmetric": (SYMMETRIC, ["symmetric"]),
    "unit": (UNIT, ["unit", "decreasing"]),
    "ties": (np.array([1.0, 2.5, 2.5]), ["positive", "not decreasing"]),
    "falling ties": (np.array([2.5, 2.5, -1.0]), ["not increasing"]),
    "a diagonal": (np.diag([1.0, 2.5]), ["symmetric, diagonal", "definite, diagonal"]),
    "nothing": (Z, []),
    "zeros": (np.zeros(3), []),
}


@pytest.mark.parametrize("name", FOUND)
def test_facts(name):
    x, names = FOUND[name]
    assert list(domains_of(np.asarray(x, np.float64), 2e-6)) == names


def test_a_shape_is_drawn_inside_its_domain():
    y = jax.ShapeDtypeStruct((2, 3), np.float32)
    report = v.verify_gradient(error, cross_entropy, Z, y, domain={"y": d.one_hot()}, skip=FEW)
    assert report.verdict is v.Verdict.PROVED, report


REFUSED = {
    "y is outside its domain, 'has rows that sum to 1': it has a sum other than 1 at [0]": {"y": d.sum_to_one()},
    "y is outside its domain, 'is positive': it is not positive at": {"y": d.positive()},
    "domain= names 'labels', which is not an array argument; choose from z, y": {"labels": d.one_hot()},
    "domain= names 2": {2: d.one_hot()},
    "y of shape (2, 3) does not fit its domain, 'is symmetric'": {"y": d.symmetric()},
    "y has shape (2, 3), but its domain makes (2,)": {"y": d.image(circle, np.float32(0.0))},
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_does_not_fit_is_said_in_one_sentence(says):
    with pytest.raises(ValueError, match=f"^{re.escape(says)}[^\n]*$"):
        v.verify_gradient(error, cross_entropy, Z, Z, domain=REFUSED[says])


def test_what_is_no_domain_is_said():
    with pytest.raises(TypeError, match="use a domain"):
        v.verify_gradient(error, cross_entropy, Z, Y, domain={"y": "one_hot"})
    with pytest.raises(TypeError, match="got 'one_hot'"):
        v.verify_gradient(error, cross_entropy, Z, Y, domain="one_hot")
    with pytest.raises(ValueError, match="needs finite bounds"):
        d.interval(1.0, 1.0)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("hand", "loss", "y", "condition"), [
    (lambda z, y: jax.nn.softmax(z, 0) - y, lambda z, y: -jnp.sum(y * jax.nn.log_softmax(z, 0)), jnp.eye(3),
     "y has columns that sum to 1, as given"),
    (lambda z, y: jax.nn.softmax(z, 0) - y, lambda z, y: -jnp.sum(y * jax.nn.log_softmax(z, 0)),
     jnp.moveaxis(jnp.eye(3)[jnp.array([[0, 1], [2, 1]])], -1, 0), "y has lines along axis -3 that sum to 1, as given"),
    (lambda z, y: 2 * y @ z, lambda z, y: jnp.sum(z * (y @ z)), jnp.diag(jnp.array([1.0, 2.0, 3.0])),
     "y is symmetric, as given"),
    (lambda z, y: z, lambda z, y: jnp.sum((y @ z) ** 2) / 2, jnp.eye(3)[jnp.array([2, 0, 1])],
     "y has orthonormal columns, as given"),
    (lambda z, y: jnp.ones_like(z) * (y[0] - y[-1]), lambda z, y: z.sum() * jnp.abs(y[0] - y[-1]),
     jnp.array([3.0, 1.5, 1.5]), "y never increases along its rows, as given"),
])  # fmt: skip
def test_facts_along_any_axis_of_matrices_and_of_orders(hand, loss, y, condition):
    z = jnp.asarray(np.random.default_rng(1).normal(size=y.shape), jnp.float32)
    report = v.verify_gradient(hand, loss, z, y, skip=FEW)
    assert report.ok and report.conditions == (condition,), report


UNITS = np.array([[-0.6, 0.8], [0.8, -0.6]], np.float32)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("f", "x", "domain"), [
    (lambda x, z: z * jnp.sum(x * x, -1, keepdims=True), UNITS, d.unit()),
    (lambda x, z: x.T @ (x @ z), UNITS @ np.float32([[0, 1], [1, 0]]) * np.float32([1, 1]), d.image(
        lambda t: jnp.array([[jnp.cos(t), -jnp.sin(t)], [jnp.sin(t), jnp.cos(t)]]), np.float32(0.3))),
    (lambda x, z: jnp.where(x > 0, z, 0.0), abs(UNITS), d.positive()),
    (lambda x, z: jnp.where(x <= 1, z, 0.0), np.full((2, 2), 0.5, np.float32), d.simplex()),
    (lambda x, z: x / x * z, abs(UNITS), d.interval(0, 1)),
    (lambda x, z: jnp.where(x[0, 0] * x[1, 1] > x[0, 1] ** 2, z, 0.0), np.eye(2, dtype=np.float32),
     d.positive_definite()),
])  # fmt: skip
def test_what_leaves_a_domain_by_rounding_is_no_edge_case_of_it(f, x, domain):
    report = v.equivalent(f, lambda x, z: z, jnp.asarray(x), jnp.asarray(Z[:2, :2]), domain={"x": domain})
    assert report.ok and not report.internal, report


NEAR_ONE = np.full((2, 2), 0.95, np.float32)  # no number that the text compares with


def test_corners_of_a_domain_are_looked_at():
    def wrong_near_axes(x, z):
        return jnp.sum(x * z) + jnp.sum(jnp.maximum(x, NEAR_ONE) - NEAR_ONE)

    x, z = jnp.asarray(UNITS), jnp.asarray(Z[:2, :2])
    report = v.equivalent(wrong_near_axes, lambda x, z: jnp.sum(x * z), x, z, domain={"x": d.unit()})
    assert report.verdict is v.Verdict.REFUTED and "a corner of the domain" in report.reason, report


@pytest.mark.parametrize(("domain", "x", "error", "said"), [
    (lambda: d.image(lambda t: t["a"], {"a": Z}), Z, TypeError, "one array of free parameters"),
    (lambda: d.image(lambda t: 1 / 0, Z), Z, ValueError, "division by zero"),
    (d.symmetric, jnp.float32(1.0), ValueError, "does not fit its domain, 'is symmetric'"),
])  # fmt: skip
def test_a_domain_that_does_not_fit_is_one_sentence(domain, x, error, said):
    with pytest.raises(error, match=said):
        v.equivalent(lambda x: x, lambda x: x, x, domain={"x": domain()})


@pytest.mark.parametrize(("domain", "x"), [
    (d.boolean(), jnp.array([1.0, 0.0])), (d.signs(), jnp.array([1.0, -1.0])), (d.integers(), jnp.array([1.0, 2.0])),
    (d.one_hot(), jnp.array([1.0, 0.0]))])  # fmt: skip
def test_a_gradient_along_single_points_is_nothing_to_prove(domain, x):
    square = jax.custom_vjp(lambda x: x * x)
    square.defvjp(lambda x: (x * x, x), lambda x, d: (777.0 * d,))
    with pytest.raises(ValueError, match="leaves no gradient to compare: x would be differentiated"):
        v.verify(square, x, domain={"x": domain})
    beside = jax.custom_vjp(lambda w, x: w * x)
    beside.defvjp(lambda w, x: (w * x, (w, x)), lambda saved, d: (saved[1] * d, 777.0 * d))
    report = v.verify(beside, jnp.array([0.3, 0.4]), x, domain={"x": domain})
    assert report.ok and "its gradient is not compared" in report.conditions[0], report


def test_a_fact_that_only_hard_inputs_ask_for_is_found():
    """Shares are at most 1, which numbers that sum to 1 are not, and samples do not show that."""
    shares = jax.nn.softmax(jnp.array([0.1, 0.5, -0.3]))
    report = v.verify_gradient(lambda x, p: jnp.where(p <= 1, x, 0.0), lambda x, p: jnp.sum(x * x) / 2,
                               jnp.array([1.0, -2.0, 0.5]), shares, skip=["repair"])  # fmt: skip
    assert report.ok and report.conditions == ("p is between 0 and 1, as given",), report


def test_a_sign_by_accident_makes_no_two_functions_one():
    """Below zero they have two values; that one of them is infinite at the edge case that shows it is no matter."""

    def branched(x, z):
        return x * jnp.where(z > 0, z, -jnp.exp(jnp.exp(-z)))

    report = v.equivalent(branched, lambda x, z: x * z, jnp.float32(0.7), jnp.float32(0.5), skip=["repair"])
    assert report.verdict is v.Verdict.REFUTED, report
    report = v.equivalent(lambda x: jnp.exp(3 * jnp.log(x)), lambda x: x**3, jnp.float32(0.7))
    assert report.verdict is v.Verdict.PROVED and "x is positive, as given" in report.conditions, report
