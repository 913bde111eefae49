"""Programs as graphs of terms, in which equal terms are one."""

import jax
import jax.numpy as jnp
from jax import lax

from handprop.verifier.programs.terms import evaluated, graph_of, source_of, terms_before

X = jnp.array([0.3, 1.2])


def graph(f, *args):
    return graph_of(jax.make_jaxpr(f)(*args))


def digests(f, *args):
    return [term.digest for term in graph(f, *args)[1]]


def root(x, turns=5):
    return lax.while_loop(lambda s: s[1] < turns, lambda s: (0.5 * (s[0] + x / s[0]), s[1] + 1), (x, 0))[0]


def test_what_is_computed_twice_is_one_term():
    first, second = digests(lambda x: (jnp.sin(x) * 2, 2 * jax.jit(jnp.sin)(x)), X)
    assert first != second  # as the factors come in another order
    first, second = digests(lambda x: (jax.jit(lambda x: jnp.sin(x))(x) + 1, jnp.sin(x) + 1), X)
    assert first == second


def test_loops_count_by_what_they_compute():
    assert digests(root, X) == digests(lambda x: jax.jit(root)(x), X)
    assert digests(root, X) != digests(lambda x: root(x, 6), X)


def test_constants_count_by_their_numbers():
    long = jnp.arange(2000.0)
    other = long.at[1000].set(-1.0)  # where the text of an array leaves numbers out
    again = long + 0.0
    assert digests(lambda x: x + long, jnp.ones(2000)) == digests(lambda x: x + again, jnp.ones(2000))
    assert digests(lambda x: x + long, jnp.ones(2000)) != digests(lambda x: x + other, jnp.ones(2000))


def test_callbacks_with_effects_are_never_the_same():
    def same(x):
        return x

    def told(x):
        return jax.experimental.io_callback(same, x, x)

    first, second = digests(lambda x: (told(x), told(x)), X)
    assert first != second


def test_a_known_term_replaces_its_program_everywhere():
    (x,), (y, slope) = graph(lambda x: (root(x), 1 / (2 * root(x))), X)
    (found,) = evaluated([slope], {x.digest: X, y.digest: jnp.array([2.0, 4.0])})
    assert found.tolist() == [0.25, 0.125]
    assert all(term.eqn.primitive.name != "while" for term in terms_before([slope], {y.digest}) if term.eqn is not None)


def test_moves_are_traced_back_to_what_they_move():
    _, (moved,) = graph(lambda x: jnp.sin(x).reshape(3, 2).T, jnp.arange(6.0))
    value = jnp.arange(6.0).reshape(2, 3)
    source, held = source_of(moved, value)
    assert source.eqn.primitive.name == "sin"
    assert held.tolist() == value.T.ravel().tolist()


def test_programs_longer_than_the_stack():
    def long(x):
        for _ in range(3000):
            x = jnp.sin(x)
        return x

    (x,), (y,) = graph(long, jnp.float32(0.3))
    with jax.disable_jit(False):
        (found,) = jax.jit(lambda at: evaluated([y], {x.digest: at}))(jnp.float32(0.3))
    assert jnp.allclose(found, long(jnp.float32(0.3)))
