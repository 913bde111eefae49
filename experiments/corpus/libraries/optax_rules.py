"""Calls of optax's rules: scaled gradients, projections on the simplex, and the weighted log-softmax."""

import jax
import jax.numpy as jnp

from corpus.libraries.call import Call
from corpus.libraries.draws import named, normal, one_hot, probabilities, uniform

__all__ = ["CALLS"]

_SCALE = "optax._src.utils._scale_gradient"
_SIMPLEX = "optax.projections._projections._projection_unit_simplex"
_SOFTMAX = "optax.losses._classification.weighted_logsoftmax"
_SCALED = "optax/_src/utils.py:173 multiplies the cotangent by the scale, and the function is the identity."


def _masked_logits() -> jax.Array:
    return normal(21, (4, 6)).at[jnp.array([0, 2]), jnp.array([1, 5])].set(-jnp.inf)


def _masked_labels() -> jax.Array:
    return one_hot([3, 0, 2, 5], 6)


CALLS = (
    Call(
        "optax", _SCALE, lambda: (named("optax.scale_gradient"), (normal(1, (3, 5)), 0.25)),
        truth="wrong", meant="scaled", argnums=(0,), why=_SCALED,
    ),
    Call(
        "optax", _SCALE, lambda: (named("optax.scale_gradient"), (normal(2, (7,)), -1.0)),
        truth="wrong", meant="scaled", argnums=(0,), why=_SCALED + " A scale of -1 reverses the gradient.",
    ),
    Call(
        "optax", _SCALE,
        lambda: (
            lambda tree: named("optax.scale_gradient")(tree, 3.0),
            ({"kernel": normal(3, (2, 4)), "bias": normal(4, (4,)), "step": normal(5, ())},),
        ),
        truth="wrong", meant="scaled", why=_SCALED,
    ),
    Call("optax", _SIMPLEX, lambda: (named("optax.projections.projection_simplex"), (normal(6, (9,)),))),
    Call(
        "optax", _SIMPLEX,
        lambda: (named("optax.projections.projection_simplex"), (normal(7, (8,), scale=3.0), jnp.asarray(2.5))),
    ),
    Call(
        "optax", _SIMPLEX,
        lambda: (
            named("optax.projections.projection_simplex"),
            ({"w": normal(8, (2, 3), scale=0.3), "b": normal(9, (4,), scale=0.3)},),
        ),
        kwargs={"scale": 5},
    ),
    Call("optax", _SIMPLEX, lambda: (named("optax.projections.projection_simplex"), (jnp.full((6,), 0.75),))),
    Call("optax", _SIMPLEX, lambda: (named("optax.projections.projection_simplex"), (normal(10, (1,)),))),
    Call("optax", _SIMPLEX, lambda: (named(_SIMPLEX), (jnp.arange(5.0) * 4.0,))),
    Call(
        "optax", _SIMPLEX,
        lambda: (named("optax.projections.projection_l1_sphere"), (normal(211, (7,), scale=2.0), jnp.asarray(1.5))),
    ),
    Call(
        "optax", _SIMPLEX,
        lambda: (named("optax.projections.projection_l1_ball"), (normal(112, (10,), scale=2.0), 2.0)), argnums=(0,),
    ),
    Call(
        "optax", _SIMPLEX, lambda: (named("optax.projections.projection_l1_ball"), (normal(13, (5,), scale=0.05),)),
        why="The point lies inside the ball, so that the branch without the rule is taken.",
    ),
    Call("optax", _SOFTMAX, lambda: (named(_SOFTMAX), (normal(14, (3, 5)), probabilities(15, (3, 5))))),
    Call("optax", _SOFTMAX, lambda: (named(_SOFTMAX), (normal(16, (6,), scale=20.0), uniform(17, (6,), 0.0, 4.0)))),
    Call("optax", _SOFTMAX, lambda: (named(_SOFTMAX), (normal(18, (2, 3, 4)), one_hot([1, 0, 3], 4)))),
    Call(
        "optax", _SOFTMAX,
        lambda: (named("optax.safe_softmax_cross_entropy"), (normal(19, (4, 6)), one_hot([0, 5, 2, 2], 6))),
    ),
    Call(
        "optax", _SOFTMAX, lambda: (named("optax.safe_softmax_cross_entropy"), (normal(20, (1, 7)), jnp.zeros((1, 7)))),
    ),
    Call(
        "optax", _SOFTMAX, lambda: (named("optax.safe_softmax_cross_entropy"), (_masked_logits(), _masked_labels())),
        argnums=(0,),
    ),
    Call(
        "optax", _SOFTMAX, lambda: (named("optax.safe_softmax_cross_entropy"), (_masked_logits(), _masked_labels())),
        truth="wrong", argnums=(0,), mode="jvp", options={"mode": "forward"},
        why="optax/losses/_classification.py:195 adds weights_dot * logsoftmax_x, which is 0 * -inf = nan in forward "
        "mode where a logit is -inf, although the labels are held and the loss stays finite.",
    ),
    Call(
        "optax", _SOFTMAX,
        lambda: (
            named("optax.safe_softmax_cross_entropy"),
            (normal(22, (3, 4)).at[1].set(-jnp.inf), one_hot([2, 0, 1], 4).at[1].set(0.0)),
        ),
        truth="wrong", argnums=(0,),
        why="A padded row of -inf logits with zero labels has the loss 0 whatever the others are; "
        "optax/losses/_classification.py:194 takes softmax(x) of the row, which is nan, times the weight 0.",
    ),
    Call(
        "optax", _SOFTMAX,
        lambda: (lambda logits, labels: named("optax.safe_softmax_cross_entropy")(logits, labels),
                 (normal(23, (5, 3)), probabilities(24, (3,)))),
    ),
)  # fmt: skip
