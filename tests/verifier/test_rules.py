"""Rules as they are called: whose they are, where they hide, and what is compared with what."""

import functools

import jax
import jax.numpy as jnp
import pytest
from selecting import all_but

import handprop as v
from handprop._compat import root_rule
from handprop.verifier import Unusable

X = jnp.linspace(0.1, 1.0, 5)
QUICK = all_but("structure", "proof", "rounding")
PROVED, REFUTED, INCONCLUSIVE = v.Verdict.PROVED, v.Verdict.REFUTED, v.Verdict.INCONCLUSIVE


def slope(x, d):
    s = jax.nn.sigmoid(x)
    return d * s * (1 + x * (1 - s))


def silu_with(factor):
    @jax.custom_vjp
    def silu(x):
        return x * jax.nn.sigmoid(x)

    silu.defvjp(lambda x: (silu(x), x), lambda x, d: (factor * slope(x, d),))
    return silu


def is_proved(f, *args, **options):
    return v.verify(f, *args, skip=all_but("structure", "proof"), **options).verdict is PROVED


def is_refuted(f, *args, **options):
    return v.verify(f, *args, skip=all_but("structure", "rounding"), **options).verdict is REFUTED


def doubled(rule):
    @functools.wraps(rule)
    def twice(x):
        return rule(2 * x)

    return twice


class Module:
    def __init__(self, rule):
        self.rule = rule

    def apply(self, params, x):
        return self.rule(x @ params["w"])


class FilterRule:
    """A rule as a filtering library wraps it: what is no array goes past JAX, the first argument is a tree."""

    def __init__(self, f):
        functools.update_wrapper(self, f)
        self.f = f

    def defvjp(self, fwd, bwd):
        self.rule = jax.custom_vjp(lambda static, tree, rest: self.f(tree, *static, *rest), nondiff_argnums=(0,))
        self.rule.defvjp(
            lambda static, tree, rest: (self.f(tree, *static, *rest), (fwd(tree, *static, *rest), tree, rest)),
            lambda static, kept, d: (bwd(kept[0], d, kept[1], *static, *kept[2]), None),
        )

    def __call__(self, tree, *args):
        static = tuple(x for x in args if not isinstance(x, jax.Array))
        return self.rule(static, tree, tuple(x for x in args if isinstance(x, jax.Array)))


def filtered(factor):
    @FilterRule
    def scaled(pair, name, count):
        a, b = pair
        return jnp.sin(a) * b * count if name == "sine" else a

    scaled.defvjp(lambda pair, name, count: None,
                  lambda kept, d, pair, name, count: (d * factor * jnp.cos(pair[0]) * pair[1] * count,
                                                      d * jnp.sin(pair[0]) * count))  # fmt: skip
    return scaled


WAYS = {
    "vmap": (jax.vmap, (X,)),
    "jit": (jax.jit, (X,)),
    "grad": (lambda rule: jax.grad(lambda x: rule(x).sum()), (X,)),
    "vmap of grad": (lambda rule: jax.vmap(jax.grad(rule)), (X,)),
    "jit of grad of jit": (lambda rule: jax.jit(jax.grad(lambda x: jax.jit(rule)(x).sum())), (X,)),
    "a decorator": (doubled, (X,)),
    "a method": (lambda rule: Module(rule).apply, ({"w": jnp.ones((5, 2)) / 3}, X)),
    "partial": (lambda rule: functools.partial(Module(rule).apply, {"w": jnp.ones((5, 2)) / 3}), (X,)),
    "scan": (lambda rule: lambda x: jax.lax.scan(lambda c, _: (rule(c), None), x, None, length=2)[0], (X,)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_function_is_compared_with_itself_without_its_rules(way):
    transformed, args = WAYS[way]
    assert is_proved(transformed(silu_with(1.0)), *args)
    assert is_refuted(transformed(silu_with(1.01)), *args)


def test_what_was_compiled_before_hides_no_rule():
    wrong = jax.jit(silu_with(1.01))
    before = jax.jit(lambda x: jax.vjp(wrong, x)[1](x))(X)
    assert is_refuted(wrong, X)
    assert is_refuted(wrong, X)  # nor does what the verifier itself compiled
    after = jax.jit(lambda x: jax.vjp(wrong, x)[1](2 * x))(X)
    assert jnp.allclose(after[0], 2 * before[0])


def gradient(x):
    return 3 * x * x


PLAIN = {
    "a gradient": gradient,
    "jax.grad": jax.grad(lambda x: (x**3).sum()),
    "rules of jax": lambda x: jax.nn.relu(x) + jax.nn.silu(x),
    "compiled": jax.jit(gradient),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_function_without_a_rule_is_an_error(name):
    with pytest.raises(TypeError, match=r"calls no custom_vjp.*verify_gradient, --loss.*reference=.*trust_jax=False"):
        v.verify(PLAIN[name], X)
    assert is_proved(PLAIN[name], X, reference=PLAIN[name])


def test_a_rule_without_a_derivative_is_an_error():
    with pytest.raises(TypeError, match=r"gradient has no derivative yet: call gradient\.defvjp"):
        v.verify(jax.custom_vjp(gradient), X)
    with pytest.raises(TypeError, match=r"call gradient\.defjvp"):
        v.verify(jax.custom_jvp(gradient), X)
    with pytest.raises(TypeError, match=r"gradient fails at these arguments: TypeError: .*positional argument"):
        v.verify(gradient, X, X)


SOURCE = """
import jax, jax.numpy as jnp
@jax.custom_vjp
def silu(x): return x * jax.nn.sigmoid(x)
silu.defvjp(lambda x: (silu(x), x), lambda x, d: (d,))
def layer(x): return silu(x) * 2
"""


@pytest.mark.parametrize("folder", ["jax/experimental", "site-packages/jax/_src", "jax/nn"])
def test_a_folder_that_is_named_like_one_of_jaxs_is_the_users(tmp_path, folder):
    file = tmp_path / folder / "rules.py"
    file.parent.mkdir(parents=True)
    file.write_text(SOURCE)
    space = {"__name__": "jax.rules", "__file__": str(file)}
    exec(compile(SOURCE, str(file), "exec"), space)
    assert is_refuted(space["layer"], X)
    assert is_refuted(jax.grad(lambda x: space["layer"](x).sum()), X)


def with_defjvps():
    rule = jax.custom_jvp(jax.nn.sigmoid)
    rule.defjvps(lambda dx, y, x: dx)
    return rule


def with_bwd():
    rule = jax.custom_vjp(jax.nn.sigmoid)
    rule.defvjp(lambda x: (jax.nn.sigmoid(x), x), lambda x, d: (d,))
    return rule


OF_JAXS_FUNCTIONS = {
    "defvjp": with_bwd,
    "defjvps": with_defjvps,
    "custom_gradient": lambda: jax.custom_gradient(lambda x: (jax.nn.sigmoid(x), lambda d: d)),
}


@pytest.mark.parametrize("name", OF_JAXS_FUNCTIONS)
def test_a_users_rule_for_a_function_of_jax_is_not_trusted(name):
    rule = OF_JAXS_FUNCTIONS[name]()
    assert is_refuted(rule, X)
    assert is_refuted(lambda x: 2 * rule(x), X)


def test_a_rule_of_jax_that_is_handed_over_is_judged():
    report = v.verify(jax.nn.relu, X, skip=QUICK)
    assert report.verdict is PROVED
    assert not any("relu" in text for text in report.assumptions)


def product(factors):
    return functools.reduce(lambda a, b: a * b, factors)


def power(bwd_factor=1):
    @jax.custom_vjp
    def power(x, n=2, negate=False):
        y = product([x] * n)
        return -y if negate else y

    def bwd(kept, d):
        x, n, negate = kept
        return (
            bwd_factor * d * n * product([x] * (n - 1)) * (-1 if negate else 1),
            None,
            None,
        )

    power.defvjp(lambda x, n=2, negate=False: (power(x, n, negate), (x, n, negate)), bwd)
    return power


def power_jvp(factor=1):
    @jax.custom_jvp
    def power(x, n):
        return product([x] * n)

    power.defjvp(lambda p, t: (power(*p), factor * p[1] * product([p[0]] * (p[1] - 1)) * t[0]))
    return power


CALLS = {
    "defaults": (power, (X,), {}),
    "numbers": (power, (X, 3, True), {}),
    "by keyword": (power, (X,), {"negate": True, "n": 3}),
    "numbers, jvp": (power_jvp, (X, 3), {}),
    "filtered": (filtered, ((X, X + 1), "sine", 3), {}),
    "inside": (lambda *k: lambda x: 2 * power(*k)(x, 3, negate=True), (X,), {}),
    "inside jit": (lambda *k: jax.jit(lambda x: 2 * power(*k)(x, 3, negate=True)), (X,), {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_are_taken_as_jax_takes_them(name):
    make, args, kwargs = CALLS[name]
    assert is_proved(make(1), *args, kwargs=kwargs)
    assert is_refuted(make(1.01), *args, kwargs=kwargs)


def test_numbers_that_are_no_arrays_are_conditions():
    report = v.verify(power(), X, 3, kwargs={"negate": True}, skip=QUICK)
    assert report.conditions[:2] == ("n is 3, as given", "negate is True, as given")
    assert "provided" in " ".join(str(report).split()[:8])


def leaky(decide):
    @jax.custom_vjp
    def leaky(x, a):
        if decide and a < 0:
            return x
        return jnp.where(x > 0, x, a * x)

    leaky.defvjp(lambda x, a: (leaky(x, a), (x, a)), lambda kept, d: (
        jnp.where(kept[0] > 0, d, kept[1] * d), jnp.where(kept[0] > 0, 0, kept[0] * d).sum()))  # fmt: skip
    return leaky


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_python_float_is_differentiated_unless_it_decides(dtype):
    x = (X - 0.5).astype(dtype)
    report = v.verify(leaky(False), x, 0.1, skip=QUICK)
    assert report.verdict is PROVED and not report.conditions
    assert [path for path, *_ in report.certificate["inputs"]][:2] == ["x", "a"]
    report = v.verify(leaky(True), x, 0.1, skip=QUICK)
    assert report.verdict is PROVED and report.conditions[0] == "a is 0.1, as given"


def test_what_jax_does_not_take_is_an_error():
    with pytest.raises(TypeError, match="negate is a str, which JAX accepts only if nondiff_argnums names it"):
        v.verify(power(), X, 3, "yes")
    with pytest.raises(TypeError, match="argnums=2 is not the position of an argument: give numbers from 0 to 1"):
        v.verify(power(), X, 3, argnums=(2,))
    with pytest.raises(TypeError, match="argnums=1 names an argument that cannot be differentiated"):
        v.verify(power(), X, 3, argnums=1)


def test_an_integer_array_stays_an_array():
    @jax.custom_vjp
    def take(x, i):
        return x[i] * 2

    def bwd(kept, d):
        return jnp.zeros_like(kept[0]).at[kept[1]].add(2 * d), None

    take.defvjp(lambda x, i: (take(x, i), (x, i)), bwd)
    report = v.verify(take, X, jnp.array([1, 1, 3]), skip=QUICK)
    assert report.verdict is PROVED
    assert [path for path, *_ in report.certificate["inputs"]][:2] == ["x", "i"]


def test_a_rule_that_takes_its_own_dtype_only():
    def sine_with(factor):
        @jax.custom_vjp
        def sine(x):
            if x.dtype != jnp.float32:
                raise ValueError("float32 only")
            return jnp.sin(x)

        sine.defvjp(lambda x: (sine(x), x), lambda x, d: (d * factor * jnp.cos(x),))
        return sine

    assert v.verify(sine_with(1), X).verdict is PROVED
    assert v.verify(sine_with(1.01), X, skip=("repair",)).verdict is REFUTED


def test_what_needs_values_is_not_refuted():
    @jax.custom_vjp
    def clipped(x):
        return x if x.sum() > 0 else -x

    clipped.defvjp(lambda x: (clipped(x), None), lambda _, d: (d,))
    report = v.verify(clipped, X)
    assert report.verdict is INCONCLUSIVE and "only runs uncompiled" in report.reason


def test_the_value_without_differentiation_is_compared_with_the_reference():
    def with_primal(primal):
        rule = jax.custom_vjp(primal)
        rule.defvjp(lambda x: (jax.nn.silu(x), x), lambda x, d: (slope(x, d),))
        return rule

    report = v.verify(with_primal(lambda x: x + 7.0), X, reference=jax.nn.silu, skip=QUICK)
    assert report.verdict is REFUTED
    assert report.counterexample.worst.path == "value without differentiation"
    assert is_proved(with_primal(lambda x: x * jax.nn.sigmoid(x)), X, reference=jax.nn.silu)
    assert is_refuted(lambda x: with_primal(lambda x: x + 7.0)(x), X, reference=jax.nn.silu)
    two = v.verify(with_primal(lambda x: (x, x)), X, reference=jax.nn.silu, skip=QUICK)
    assert two.verdict is REFUTED and "returns PyTreeDef((*, *)), but the reference returns PyTreeDef(*)" in two.reason


def told_of_zeros(*wrong):
    """``x y z`` and ``x + y + z``, wrong where only those arguments, by number, are differentiated."""

    @jax.custom_vjp
    def f(x, y, z):
        return x * y * z, x + y + z

    def fwd(x, y, z):
        perturbed = tuple(a.perturbed for a in (x, y, z))
        return f(x.value, y.value, z.value), (x.value, y.value, z.value, perturbed)

    def bwd(saved, cotangents):
        x, y, z, perturbed = saved
        d, e = (jax.numpy.zeros(c.shape) if type(c).__name__ == "SymbolicZero" else c for c in cotangents)
        factor = 2.0 if wrong and perturbed == tuple(i in wrong for i in range(3)) else 1.0
        return (factor * d * y * z + e, factor * d * x * z + e, factor * d * x * y + e)

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    return f


def test_a_rule_that_is_told_of_zeros_is_judged_for_each_argument_alone():
    report = v.verify(told_of_zeros(), X, X, X, skip=QUICK)
    assert report.verdict is PROVED
    assert report.conditions == (
        "all arguments are differentiated, in all of their parts, or one alone",
        "every value of the rule is used",
    )
    report = v.verify(told_of_zeros(1), X, X, X, skip=QUICK)
    assert report.verdict is REFUTED and report.subject == "f, differentiated with respect to y alone"
    assert v.verify(told_of_zeros(1), X, X, X, skip=QUICK, argnums=(0,)).verdict is PROVED


def test_the_derivative_that_custom_root_was_given_is_judged():
    """The rule is JAX's, but its solver of the linearized equation is written by hand."""

    def cube_root(factor):
        def root(x):
            def newton(f, y):
                return jax.lax.fori_loop(0, 30, lambda i, y: y - f(y) / (3 * y**2), y)

            return jax.lax.custom_root(lambda y: y**3 - x, jnp.ones_like(x), newton, lambda g, b: factor * b / g(1.0))

        return root

    x = jnp.float32(2.0)
    if root_rule() is None:
        with pytest.raises(TypeError, match="calls no custom"):
            v.verify(cube_root(1.0), x)
    else:
        assert v.verify(cube_root(1.0), x, skip="repair").ok
        assert v.verify(cube_root(1.5), x, skip="repair").verdict is v.Verdict.REFUTED
    with pytest.raises(TypeError, match="calls no custom"):
        v.verify(lambda x: jnp.sin(x), x)


def test_jax_s_own_rules_are_judged_where_they_are_asked_for():
    def gate(x):
        return x * jax.nn.relu(x)

    with pytest.raises(Unusable, match="trust_jax=False"):
        v.verify(gate, X)
    report = v.verify(gate, X, trust_jax=False)
    assert report.verdict is v.Verdict.PROVED
    assert not any("trusted" in assumption for assumption in report.assumptions)
    with pytest.raises(Unusable, match="calls no custom_vjp"):
        v.verify(lambda x: x * x, X, trust_jax=False)


def test_a_number_that_a_rule_takes_as_it_is_stays_as_it_is():
    """Such a number is traced first, and the rule then closes over it."""

    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def scaled(x, k):
        return k * x

    scaled.defvjp(lambda x, k: (k * x, None), lambda k, _, g: (k * g,))
    report = v.verify(lambda x, k: scaled(x, k), X, 2.5)
    assert report.verdict is v.Verdict.PROVED
    assert "k is 2.5, as given" in report.conditions
