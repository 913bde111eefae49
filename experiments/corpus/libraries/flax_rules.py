"""Calls of the rules of flax: its products in eight bits, and rules given through its own custom_vjp."""

from collections.abc import Callable

from corpus.libraries.call import Call
from corpus.libraries.draws_b import draw, floats, uniform

__all__ = ["CALLS"]

_FP8 = "flax.linen.fp8_ops."
_LINEN = "flax.linen.custom_vjp"
_NNX = "flax.nnx.custom_vjp"
_MATRICES = (((1,), (0,)), ((), ()))
_BATCHES = (((2,), (1,)), ((0,), (0,)))

_STRAIGHT = "flax/linen/fp8_ops.py:259: the cotangent passes through the rounding to eight bits as it is"
_RUNNING = (
    "flax/linen/fp8_ops.py:260: the new scale and the new history of maxima are returned in place of the cotangents "
    "of the old ones"
)


def _fp8(name: str, *args) -> tuple[Callable, tuple]:
    from flax.linen import fp8_ops

    return getattr(fp8_ops, name), args


def _rounded(name: str, *arrays) -> tuple[Callable, tuple]:
    import jax.numpy as jnp

    kind = jnp.float8_e5m2 if name == "out_qdq" else jnp.float8_e4m3fn
    return _fp8(name, jnp.float32, kind, *(jnp.asarray(a, jnp.float32) for a in arrays))


def _new_scale() -> tuple[Callable, tuple]:
    quantise, args = _rounded("in_q", draw(1, 5), floats(0.7), floats(0.5, 2.0, 1.0))
    return lambda *a: quantise(*a)[1], args


def _from_eight_bits(*arrays) -> tuple[Callable, tuple]:
    import jax.numpy as jnp

    return _fp8("out_dq", jnp.float32, *(jnp.asarray(a, jnp.float32) for a in arrays))


def _scaled_product() -> tuple[Callable, tuple]:
    import jax.numpy as jnp
    from flax.linen import fp8_ops

    meta = {f"{side}_scale": jnp.ones(1, jnp.float32) for side in ("lhs", "rhs", "grad")}
    meta |= {f"{side}_amax_history": jnp.full(4, 3.0, jnp.float32) for side in ("lhs", "rhs", "grad")}

    def product(lhs, rhs):
        return fp8_ops.fp8_scaled_dot_general(lhs, rhs, _MATRICES, preferred_element_type=jnp.float32, **meta)

    return product, (jnp.asarray(draw(2, 3, 5), jnp.float32), jnp.asarray(draw(3, 5, 4), jnp.float32))


def _dense(operation: str, of_input: bool = False) -> tuple[Callable, tuple]:
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    from flax.linen import fp8_ops

    layer = nn.Dense(4, dot_general_cls=getattr(fp8_ops, operation))
    x = jnp.asarray(draw(4, 3, 6), jnp.float32)
    variables = layer.init(jax.random.PRNGKey(0), x)
    if of_input:
        return lambda x: layer.apply(variables, x), (x,)
    return layer.apply, (variables, x)


def _einsum() -> tuple[Callable, tuple]:
    import jax
    import jax.numpy as jnp
    from flax.linen import fp8_ops

    product = fp8_ops.Fp8Einsum()
    lhs, rhs = jnp.asarray(draw(5, 2, 3, 5), jnp.float32), jnp.asarray(draw(6, 5, 4), jnp.float32)
    variables = product.init(jax.random.PRNGKey(0), "abc,cd->abd", lhs, rhs)
    return lambda lhs, rhs: product.apply(variables, "abc,cd->abd", lhs, rhs), (lhs, rhs)


def _linen(change: Callable | None = None, change_inputs: Callable | None = None) -> tuple[Callable, tuple]:
    """Return a dense layer whose cotangents of the parameters, or of the inputs, are changed by a rule."""
    import flax.linen as nn
    import jax

    def plain(module, x):
        return module(x)

    def forward(module, x):
        return nn.vjp(plain, module, x)

    def backward(pull, cotangent):
        parameters, inputs = pull(cotangent)
        if change is not None:
            parameters = jax.tree.map(change, parameters)
        return parameters, inputs if change_inputs is None else change_inputs(inputs)

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.custom_vjp(plain, forward_fn=forward, backward_fn=backward)(nn.Dense(3), x)

    x = draw(7, 4, 5)
    layer = Layer()
    return layer.apply, (layer.init(jax.random.PRNGKey(0), x), x)


def _nnx(of_y: Callable, **options) -> tuple[Callable, tuple]:
    """Return sin(x) * y of a module's two parameters, whose cotangent of y is what ``of_y`` makes of the right one."""
    import jax.numpy as jnp
    from flax import nnx

    class Pair(nnx.Module):
        def __init__(self, x, y):
            self.x, self.y = nnx.Param(x), nnx.Param(y)

    @nnx.custom_vjp(graph_updates=False, **options)
    def wave(pair, scale):
        return scale * jnp.sin(pair.x[...]) * pair.y[...]

    def forward(pair, scale):
        return wave(pair, scale), (pair, scale)

    def backward(residuals, cotangent):
        pair, scale = residuals
        x, y = pair.x[...], pair.y[...]
        gradient = nnx.clone(pair)
        gradient.x[...] = cotangent * scale * jnp.cos(x) * y
        gradient.y[...] = of_y(cotangent * scale * jnp.sin(x))
        return gradient, jnp.sum(cotangent * jnp.sin(x) * y)

    wave.defvjp(forward, backward)
    graph, state = nnx.split(Pair(draw(8, 5), draw(9, 5)))
    return lambda state, scale: wave(nnx.merge(graph, state), scale), (state, uniform(1, 0.5, 2.0))


def _call(rule: str, make: Callable, *rest, **more) -> Call:
    return Call("flax", rule, make, *rest, **more)


def _clip(x):
    return x.clip(-0.1, 0.1)


def _sign(x):
    return (x > 0) * 2.0 - 1.0


CALLS = (
    _call(
        _FP8 + "dot_general_with_precision",
        lambda: _fp8("dot_general_with_precision", draw(1, 3, 5), draw(2, 5, 4), _MATRICES),
        mode="jvp",
    ),
    _call(
        _FP8 + "dot_general_with_precision",
        lambda: _fp8("dot_general_with_precision", draw(1, 2, 3, 5), draw(2, 2, 5, 4), _BATCHES),
        mode="jvp",
    ),
    _call(
        _FP8 + "in_qdq",
        lambda: _rounded("in_qdq", draw(3, 4, 3), floats(1), floats(2, 3, 1)),
        "wrong",
        "straight-through",
        argnums=(2,),
        why=_STRAIGHT,
    ),
    _call(
        _FP8 + "in_qdq",
        lambda: _rounded("in_qdq", draw(3, 5), floats(0.5), floats(0, 0, 0, 0)),
        "wrong",
        "statistic",
        argnums=(3, 4),
        why=_RUNNING,
    ),
    _call(
        _FP8 + "out_qdq",
        lambda: _rounded("out_qdq", draw(4, 4, 3), floats(1), floats(2, 3, 1)),
        "wrong",
        "other",
        argnums=(2,),
        why="flax/linen/fp8_ops.py:277: the cotangent is rounded to eight bits",
    ),
    _call(
        _FP8 + "out_qdq",
        lambda: _rounded("out_qdq", draw(4, 6), floats(1), floats(2, 3, 1)),
        "wrong",
        "statistic",
        argnums=(3, 4),
        why="flax/linen/fp8_ops.py:280: " + _RUNNING.split(": ")[1],
    ),
    _call(
        _FP8 + "in_q",
        _new_scale,
        "wrong",
        "statistic",
        argnums=(2, 3, 4),
        why="flax/linen/fp8_ops.py:300: " + _RUNNING.split(": ")[1],
    ),
    _call(
        _FP8 + "out_dq",
        lambda: _from_eight_bits(floats(0.7), floats(1.6), draw(5, 3, 4)),
        "wrong",
        "straight-through",
        why="flax/linen/fp8_ops.py:318: the cotangent passes through, as if there were no scales",
    ),
    _call(_FP8 + "out_dq", lambda: _from_eight_bits(floats(1), floats(1), draw(5, 3, 4)), argnums=(3,)),
    _call(
        _FP8 + "quantized_dot",
        _scaled_product,
        "wrong",
        "straight-through",
        why="flax/linen/fp8_ops.py:374: the cotangents of the rounded factors are handed to the factors before "
        "rounding, in eight bits themselves",
    ),
    _call(_FP8 + "in_qdq", lambda: _dense("Fp8DotGeneralOp"), "wrong", "statistic", why=_RUNNING),
    _call(_FP8 + "in_qdq", lambda: _dense("NANOOFp8DotGeneralOp", True), "wrong", "straight-through", why=_STRAIGHT),
    _call(
        _FP8 + "quantized_dot",
        lambda: _dense("Fp8DirectDotGeneralOp", True),
        "wrong",
        "straight-through",
        why="flax/linen/fp8_ops.py:374: the cotangent of the rounded factor is handed to the factor before rounding",
    ),
    _call(
        _FP8 + "quantized_dot",
        _einsum,
        "wrong",
        "straight-through",
        why="flax/linen/fp8_ops.py:374: the cotangent of the rounded factor is handed to the factor before rounding",
    ),
    _call(_LINEN, _linen),
    _call(
        _LINEN,
        lambda: _linen(_sign),
        "wrong",
        "other",
        why="flax/linen/transforms.py:2054: the rule of the documentation gives the signs of the cotangents",
    ),
    _call(
        _LINEN,
        lambda: _linen(None, _clip),
        "wrong",
        "clipped",
        why="the cotangent of the inputs is clipped to a tenth by the rule that is given through "
        "flax/linen/transforms.py:2015",
    ),
    _call(_NNX, lambda: _nnx(lambda y: y)),
    _call(_NNX, lambda: _nnx(lambda y: y, graph=False)),
    _call(
        _NNX,
        lambda: _nnx(lambda y: 0.0 * y),
        "wrong",
        "zero",
        why="the second parameter is frozen by the rule that is given through flax/nnx/transforms/autodiff.py:1341",
    ),
    _call(
        _NNX,
        lambda: _nnx(_clip),
        "wrong",
        "clipped",
        why="the cotangent of the second parameter is clipped to a tenth by the rule that is given through "
        "flax/nnx/transforms/autodiff.py:1341",
    ),
)
