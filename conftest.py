"""Strict for the whole suite, doctests included: two CPU devices, no promotion, no legacy keys."""

import collections
import os

# Both are read when jax starts, and processes that tests start inherit them.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2".strip()

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")

# Same examples in every run: a failure that comes and goes teaches nobody.
hypothesis.settings.register_profile("handprop", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("handprop")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of a family of cases that is marked ``thinned(n)``, every n-th runs each time, and the others are sweeps."""
    met = collections.Counter()
    for item in items:
        for mark in item.iter_markers("thinned"):
            family = item.nodeid.partition("[")[0]
            if met[family] % mark.args[0]:
                item.add_marker(pytest.mark.sweep)
            met[family] += 1
