"""Fixtures that several tests of the verifier use."""

import sys

import jax
import pytest

from handprop.verifier.internal import collected


@pytest.fixture
def jax_as_it_comes():
    """Rules of the corpus promote ranks and dtypes, as JAX lets them."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def time_enough():
    """A search ends when it has found an edit or has none left; a loaded machine is not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["handprop.verifier.repair.explain"], "SECONDS", 30)
        yield


@pytest.fixture(autouse=True, scope="module")
def memory_is_given_back():
    """JAX keeps what it compiled for every shape: some gigabytes by the end of the suite."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def own_faults():
    """Collect the verifier's own faults, including those that the module's fixtures cause."""
    with collected() as found:
        yield found


@pytest.fixture(autouse=True)
def no_own_faults(request, own_faults):
    """Fail on a fault of the verifier itself, which would pass for an edit that does not fit or a check that fails."""
    yield
    found = list(own_faults.values())
    own_faults.clear()
    if request.node.get_closest_marker("own_faults") is None:
        assert not found, found
