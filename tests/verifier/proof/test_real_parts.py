"""Programs of complex numbers computed by their real parts: the same numbers, and no complex value is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from handprop.verifier.programs.jaxprs import trace
from handprop.verifier.proof.real_parts import NotReal, holds_complex, in_real_parts

RNG = np.random.default_rng(0)
PARTS = [RNG.normal(size=(3, 4)) for _ in range(4)]
FUNCTIONS = {
    "mul": lambda z, w: z * w, "div": lambda z, w: z / w, "pow": lambda z, w: z**w, "cube": lambda z, w: z**3,
    "inverse square": lambda z, w: z**-2, "square": lambda z, w: jnp.square(z), "sub": lambda z, w: -z - w,
    "exp": lambda z, w: jnp.exp(z), "log": lambda z, w: jnp.log(z), "sqrt": lambda z, w: jnp.sqrt(z),
    "rsqrt": lambda z, w: lax.rsqrt(z), "sin": lambda z, w: jnp.sin(z), "cos": lambda z, w: jnp.cos(z),
    "tan": lambda z, w: jnp.tan(z), "sinh": lambda z, w: jnp.sinh(z), "cosh": lambda z, w: jnp.cosh(z),
    "tanh": lambda z, w: jnp.tanh(z), "log1p": lambda z, w: jnp.log1p(z), "expm1": lambda z, w: jnp.expm1(z),
    "logistic": lambda z, w: jax.nn.sigmoid(z), "abs": lambda z, w: abs(z), "sign": lambda z, w: jnp.sign(z),
    "sign of zero": lambda z, w: jnp.sign(0 * z), "angle": lambda z, w: jnp.angle(z), "conj": lambda z, w: z.conj() * w,
    "matmul": lambda z, w: z @ w.T, "einsum": lambda z, w: jnp.einsum("ij,ij->j", z, w),
    "convolution": lambda z, w: jnp.convolve(z[0], w[0]), "vdot": lambda z, w: jnp.vdot(z, w),
    "prod": lambda z, w: jnp.prod(z, axis=0), "prod of all": lambda z, w: jnp.prod(z), "sum": lambda z, w: z.sum(0),
    "cumsum": lambda z, w: jnp.cumsum(z), "mean": lambda z, w: z.mean(), "norm": lambda z, w: jnp.linalg.norm(z),
    "equal": lambda z, w: (z == z, z == w, z != w), "finite": lambda z, w: jnp.isfinite(z / 0.0),
    "of integers": lambda z, w: (z.real > 0).astype(complex) * w, "to real": lambda z, w: z.real * w,
    "scan": lambda z, w: lax.scan(lambda c, x: (c * x + 1j, c), z[0], w),
    "while": lambda z, w: lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * w), (0, z))[1],
    "cond": lambda z, w: lax.cond(z.real[0, 0] > 0, lambda: z * w, lambda: z - w),
    "gather": lambda z, w: z[jnp.array([0, 2]), 1], "scatter": lambda z, w: z.at[1].add(w[0]).at[0, 1].set(3j),
    "outside": lambda z, w: z.at[jnp.array([0, 7])].get(mode="fill"), "where": lambda z, w: jnp.where(z.real > 0, z, w),
    "pad": lambda z, w: jnp.pad(z, 1), "roll": lambda z, w: jnp.roll(jnp.stack([z, w]), 1), "rule": jnp.multiply,
    "gradient": lambda z, w: jax.vjp(lambda z: jnp.sin(z) * z / w, z)[1](w)[0],
    "fft": lambda z, w: jnp.fft.fft(z), "ifft": lambda z, w: jnp.fft.ifft(z), "fft2": lambda z, w: jnp.fft.fft2(z),
    "ifft2": lambda z, w: jnp.fft.ifft2(z), "rfft": lambda z, w: jnp.fft.rfft(z.real),
    "rfft odd": lambda z, w: jnp.fft.rfft(z.real.T), "irfft": lambda z, w: jnp.fft.irfft(z),
    "irfft odd": lambda z, w: jnp.fft.irfft(z, n=7), "rfft2": lambda z, w: jnp.fft.rfft2(z.real),
    "irfft2": lambda z, w: jnp.fft.irfft2(z), "rfftn": lambda z, w: jnp.fft.rfftn(jnp.stack([z.real, w.imag])),
}  # fmt: skip


def of_parts(f):
    """``f`` of two complex arrays as a function of four real ones."""

    def real(a, b, c, d):
        outputs = jax.tree.leaves(f(lax.complex(a, b), lax.complex(c, d)))
        return [p for x in outputs for p in ((x.real, x.imag) if jnp.iscomplexobj(x) else (x,))]

    return real


@pytest.mark.usefixtures("jax_as_it_comes")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_program_by_its_parts_computes_the_same_numbers(name):
    with jax.enable_x64(True):
        f, arguments = of_parts(FUNCTIONS[name]), [jnp.asarray(part) for part in PARTS]
        program = trace(in_real_parts(f), arguments)
        assert not holds_complex(program) and holds_complex(trace(f, arguments))
        got = jax.jit(in_real_parts(f))(*arguments)
        for x, y in zip(got, jax.jit(f)(*arguments), strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("jax_as_it_comes")
def test_what_is_not_known_by_its_parts_is_named():
    def largest(a, b):
        return jnp.sort(lax.complex(a, b)).real

    x = jnp.ones(3)
    with pytest.raises(NotReal, match="sort of complex numbers"):
        trace(in_real_parts(largest), (x, x))
    with pytest.raises(NotReal, match="a Fourier transform of 100 numbers"):
        trace(in_real_parts(lambda x: jnp.fft.fft(x).real), (jnp.ones(100),))
