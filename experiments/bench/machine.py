"""What the figures were measured on."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["describe"]

PACKAGES = ("jax", "jaxlib", "optax", "numpy", "flax", "equinox", "torch", "scikit-learn")
FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512_bf16", "amx_tile", "asimd", "sve")


def _cpu() -> tuple[str, list[str]]:
    """The model, and which of its instruction sets matter here."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), []
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    has = set(flags.group(1).split()) if flags else set()
    return (model.group(1) if model else platform.machine()), [flag for flag in FLAGS if flag in has]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _compiler() -> str | None:
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        return None
    return subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]


def _load() -> float | None:
    """Processes that ran or waited for a core in the last minute, on average."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def describe(device: str, threads: int) -> dict[str, Any]:
    model, flags = _cpu()
    versions = {package: version for package in PACKAGES if (version := _version(package))}
    compiler = _compiler()
    if compiler:
        versions["cc"] = compiler
    return {"device": device, "cpu": model, "flags": flags, "cores": os.cpu_count(), "threads": threads,
            "load": _load(), "versions": versions}  # fmt: skip
