"""Plain C, compiled for this machine when the peer is made: how fast a step could be with nothing in its way."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from bench.work import Make, Peer, Run, Work

__all__ = ["peers"]

SOURCE = Path(__file__).with_name("classic.c")
COMPILED = ("-O3", "-march=native", "-ffast-math", "-fPIC", "-c")
# Linked apart, and without -ffast-math: with it GCC before 13 links code that, when the library is loaded, makes the
# loading thread flush subnormal numbers to zero, in NumPy and in Python's own floats too.
LINKED = ("-shared", "-lm")


def _compiler() -> str:
    name = os.environ.get("CC", "cc")
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"no compiler {name} is on PATH")
    return found


@lru_cache(maxsize=32)
def _library(sizes: tuple[int, ...], examples: int, dtype: str) -> ctypes.CDLL:
    """The source compiled for one network, loaded; the file is gone when this returns."""
    constants = dict(zip("IHO", sizes, strict=True), N=examples, REAL="float" if dtype == "float32" else "double")
    defined = [f"-D{name}={value}" for name, value in constants.items()] + ["-DDOUBLE"] * (dtype == "float64")
    with tempfile.TemporaryDirectory() as folder:
        machine_code, made = Path(folder) / "classic.o", Path(folder) / "classic.so"
        _ran(_compiler(), *COMPILED, *defined, str(SOURCE), "-o", str(machine_code))
        _ran(_compiler(), str(machine_code), "-o", str(made), *LINKED)
        return ctypes.CDLL(str(made))


def _ran(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{SOURCE.name} does not compile: {done.stderr.strip()}")


def descend(function: str) -> Make:
    def make(work: Work) -> Run:
        run_c = getattr(_library(work.sizes, len(work.x), work.dtype), function)
        real = ctypes.c_float if work.dtype == "float32" else ctypes.c_double
        x, y = np.ascontiguousarray(work.x), np.ascontiguousarray(work.y)

        def run(steps: int) -> list[np.ndarray]:
            params = [W.copy() for W, _ in work.layers]
            arrays = [array.ctypes.data_as(ctypes.c_void_p) for array in (x, y, *params)]
            run_c(*arrays, real(work.rate), ctypes.c_long(steps))
            return params

        return run

    return make


def _small(work: Work) -> bool:
    return work.orders is None and not work.bias and len(work.sizes) == 3 and work.reduction == "sum"


def _classic(work: Work) -> bool:
    return _small(work) and (*work.sizes, len(work.x)) == (3, 4, 1, 4)


def peers(device: str) -> tuple[Peer, ...]:
    _compiler()
    return (
        Peer("C, plain loops", descend("descend_plain"), fits=_small),
        Peer("C, vectors by hand", descend("descend_wide"), fits=_classic),
    )
