"""Pairs against complex numbers read as pairs, against constants whose size decides, and against QR factorizations.

The same kind of cases as :mod:`corpus.red_team`, whose helpers they are written with.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from corpus.red_team import Case, differ, drawn, equal, number

__all__ = ["complex_parts", "orthogonal", "sized"]

A3, B3, X3, X4 = drawn(3), drawn(3, seed=1), drawn(3, seed=2), drawn(4, seed=3)
TALL, RIGHT = drawn(3, 2, seed=4), drawn(3, seed=5)
LEFT, AT_TALL = np.array([-1.0, -0.5, -2.0]), np.array([[2.0, 0.5], [-1.0, 3.0], [0.3, -1.0]])
UP = np.array([0.5, 1.0, 2.0])


def complex_parts() -> Iterator[Case]:
    yield differ("complex_root_of_square", lambda a, b: jnp.real(jnp.sqrt((a + 1j * b) ** 2)), lambda a, b: a + 0 * b,
                 A3, B3, at=(LEFT, UP))  # fmt: skip
    yield differ("complex_log_of_exp", lambda a, b: jnp.imag(jnp.log(jnp.exp(a + 1j * b))), lambda a, b: b + 0 * a,
                 A3, B3, at=(UP, 4 * UP))  # fmt: skip
    yield differ("complex_square_for_norm", lambda a, b: jnp.real((a + 1j * b) * (a + 1j * b)),
                 lambda a, b: a * a + b * b, A3, B3, at=(UP, UP))  # fmt: skip
    yield differ("complex_product_without_conj", lambda a, b: jnp.real(jnp.dot(a + 1j * b, a + 1j * b)),
                 lambda a, b: jnp.real(jnp.vdot(a + 1j * b, a + 1j * b)), A3, B3, at=(UP, UP))  # fmt: skip
    yield differ("complex_imaginary_part_of_a_real", lambda x: jnp.where(jnp.imag((x + 0j) * (x + 0j)) == 0, 5.0, x),
                 lambda x: x + 0.0, A3, at=(UP,))  # fmt: skip
    yield differ("complex_equal_by_one_part", lambda a, b: jnp.where(a + 1j * b == a + 0j, 5.0, a),
                 lambda a, b: jnp.where(a == a, 5.0, a) + 0 * b, A3, B3, at=(UP, UP))  # fmt: skip
    yield differ("complex_fourier_inverse", lambda x: jnp.imag(jnp.fft.fft(x)), lambda x: 4 * jnp.imag(jnp.fft.ifft(x)),
                 X4, at=(np.arange(4.0) ** 2,))  # fmt: skip
    yield differ("complex_fourier_of_half", lambda x: jnp.fft.irfft(jnp.fft.rfft(x)[:2] * 1.0, n=4), lambda x: x + 0.0,
                 X4, at=(np.arange(4.0) ** 2,))  # fmt: skip
    yield differ("complex_argument_of_negative", lambda a, b: jnp.angle(-(a + 1j * b)),
                 lambda a, b: jnp.angle(a + 1j * b) + jnp.pi, A3, B3, at=(UP, UP))  # fmt: skip
    yield differ("complex_real_part_for_norm", lambda a, b: jnp.real(a + 1j * b) + 0.0,
                 lambda a, b: jnp.abs(a + 1j * b), A3, B3, at=(UP, UP))  # fmt: skip
    yield equal("complex_norm", lambda a, b: jnp.abs((a + 1j * b) * (a + 1j * b)), lambda a, b: a * a + b * b, A3, B3)
    yield equal("complex_quotient", lambda a, b: jnp.real(1 / (a + 1j * b)), lambda a, b: a / (a * a + b * b), A3, B3)
    yield equal("complex_exponential", lambda a, b: jnp.imag(jnp.exp(a + 1j * b)), lambda a, b: jnp.exp(a) * jnp.sin(b),
                A3, B3)  # fmt: skip
    yield equal("complex_fourier_is_linear", lambda x: jnp.real(jnp.fft.fft(3 * x + x * x)),
                lambda x: 3 * jnp.real(jnp.fft.fft(x)) + jnp.real(jnp.fft.fft(x**2)), X4)  # fmt: skip
    yield equal("complex_half_of_a_spectrum", lambda x: jnp.imag(jnp.fft.rfft(x)),
                lambda x: jnp.imag(jnp.fft.fft(x))[:3], X4)  # fmt: skip
    yield equal("complex_spectrum_without_its_imaginary_ends",
                lambda x: jnp.fft.irfft(x[:3] + 1j * jnp.array([1.0, 0, 1]) * x[3], n=4),
                lambda x: jnp.fft.irfft(x[:3] + 0j, n=4), X4)  # fmt: skip


def chosen(truth: Any, x: Any) -> Any:
    return jnp.where(truth, x, 2 * x)


def sized() -> Iterator[Case]:
    """Constants that no input enters, such as ``exp(0.3)``: their size decides which case is taken."""
    constants = {
        "exp": lambda x: jnp.exp(number(0.3, x.dtype)) > 1.35,  # 1.34986
        "sin": lambda x: jnp.sin(number(3.0, x.dtype)) > 0.142,  # 0.14112
        "tan_beyond_its_pole": lambda x: jnp.tan(number(2.0, x.dtype)) > -2.0,  # -2.18504
        "log_of_sum": lambda x: jnp.log(jnp.sum(jnp.exp(number(jnp.array([0.1, 0.2, 0.4]), x.dtype)))) > 1.341,
        "product": lambda x: jnp.cos(number(1.0, x.dtype)) * jnp.tanh(number(-2.0, x.dtype)) > -0.52,  # -0.52086
        "even_power": lambda x: (jnp.cos(number(2.0, x.dtype)) - 0.1) ** 2 > 0.267,  # 0.26641
    }
    for name, truth in constants.items():
        yield differ(f"sized_{name}", lambda x, t=truth: chosen(t(x), x), lambda x: x + 0.0, X3, at=(UP,))
        yield equal(f"sized_{name}_decided", lambda x, t=truth: chosen(t(x), x), lambda x: x + x, X3)
    yield differ("neighbour_is_larger", lambda x: jnp.where(jnp.nextafter(x, jnp.full_like(x, jnp.inf)) > x, 5.0, x),
                 lambda x: x + 0.0, X3, at=(UP,))  # fmt: skip
    yield differ("neighbour_differs", lambda x: jnp.where(jnp.nextafter(x, 2 * x) == x, x, 5.0), lambda x: x + 0.0, X3,
                 at=(UP,))  # fmt: skip
    yield equal("neighbour_of_a_square", lambda x: jnp.nextafter(x * x, jnp.full_like(x, jnp.inf)) * x,
                lambda x: x * jnp.nextafter(x**2, jnp.full_like(x, jnp.inf)), X3)  # fmt: skip


def fitted(a: Any, b: Any) -> Any:
    q, r = jnp.linalg.qr(a)
    return solve_triangular(r, q.T @ b)


def gram(a: Any) -> Any:
    return a.T @ a


def orthogonal() -> Iterator[Case]:
    norm = jnp.linalg.norm
    yield differ("qr_sign_of_the_diagonal", lambda a: jnp.linalg.qr(a)[1][0, 0], lambda a: -norm(a[:, 0]), TALL,
                 at=(-AT_TALL,))  # fmt: skip
    yield differ("qr_positive_diagonal", lambda a: jnp.linalg.qr(a)[1], lambda a: jnp.linalg.cholesky(a.T @ a).T, TALL,
                 at=(AT_TALL,))  # fmt: skip
    yield differ("qr_columns_span_not_all", lambda a: gram(jnp.linalg.qr(a)[0].T),
                 lambda a: jnp.eye(3) + 0 * a[:1, :1], TALL, at=(AT_TALL,))  # fmt: skip
    yield differ("qr_sign_of_a_column", lambda a: jnp.linalg.qr(a)[0][:, 0], lambda a: a[:, 0] / norm(a[:, 0]), TALL,
                 at=(AT_TALL,))  # fmt: skip
    yield differ("qr_by_its_transpose", lambda a, b: jnp.linalg.qr(a)[1].T @ b[:2],
                 lambda a, b: jnp.linalg.qr(a)[1] @ b[:2], TALL, RIGHT, at=(AT_TALL, UP))  # fmt: skip
    yield differ("qr_fit_of_the_transpose", fitted, lambda a, b: jnp.linalg.solve(a.T @ a + jnp.eye(2), a.T @ b), TALL,
                 RIGHT, at=(AT_TALL, UP))  # fmt: skip
    yield equal("qr_product", lambda a: jnp.matmul(*jnp.linalg.qr(a)), lambda a: a + 0.0, TALL)
    yield equal("qr_orthogonal", lambda a: gram(jnp.linalg.qr(a)[0]),
                lambda a: jnp.eye(2) + 0 * a[:1, :1], TALL)  # fmt: skip
    yield equal("qr_sign_is_that_of_the_entry", lambda a: jnp.linalg.qr(a)[1][0, 0],
                lambda a: -jnp.sign(a[0, 0]) * norm(a[:, 0]), TALL)  # fmt: skip
