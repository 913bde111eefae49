"""Digests of arrays of field elements, and random numbers by hashing."""

import hashlib

import numpy as np

from handprop.verifier.proof.field.arithmetic import Elements
from handprop.verifier.proof.field.values import Value

__all__ = ["digest", "mix", "word"]
SPLIT_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def mix(*words: np.ndarray | int) -> np.ndarray:
    """Uint64 hashes of rows of words, by chaining splitmix64's finalizer."""
    h = np.asarray(np.uint64(0))
    with np.errstate(over="ignore"):
        for word in words:
            w = np.uint64(word % 2**64) if isinstance(word, int) else word.astype(np.uint64)
            h = (h ^ w) + SPLIT_MIX[0]
            h = np.asarray((h ^ (h >> np.uint64(30))) * SPLIT_MIX[1])
            h = np.asarray((h ^ (h >> np.uint64(27))) * SPLIT_MIX[2])
            h = np.asarray(h ^ (h >> np.uint64(31)))
    return h


def digest(x: Elements) -> bytes:
    """A 128-bit hash of an array's bytes, which identifies it."""
    h = hashlib.blake2b(x.re.tobytes(), digest_size=16)
    if x.im is not None and x.im.any():
        h.update(x.im.tobytes())
    return h.digest()


def word(v: Value) -> int:
    """A hash that identifies a value as an operand: its elements, which of them are not finite, and its shape."""
    h = hashlib.blake2b(digest(v.x) + str(v.shape).encode(), digest_size=8)
    h.update(b"" if v.special is None or not v.special.any() else v.special.tobytes())
    return int.from_bytes(h.digest(), "little")
