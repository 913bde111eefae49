"""scikit-learn's MLP. With sigmoid outputs it knows the cross-entropy only, whose delta is ``a - y``: work that has no
factor ``a (1 - a)`` at the output, checked as such. It draws its own orders, which are predicted for the check.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.utils import check_random_state, shuffle

from bench.work import Peer, Run, Work

__all__ = ["PEERS", "own_work"]


def own_work(work: Work) -> Work:
    """What the peer does instead: the cross-entropy, in the orders of its own random state."""
    state, order, orders = check_random_state(work.seed), np.arange(len(work.x)), []
    for _ in range(len(work.orders) if work.orders is not None else 0):
        order = shuffle(order, random_state=state)
        orders.append(order)
    return work._replace(delta="cross-entropy", orders=np.stack(orders))


def make(work: Work) -> Run:
    """Plain descent, no penalty, no momentum; a warm start takes the weights that it is given."""
    model = MLPClassifier(
        work.sizes[1:-1], activation="logistic", solver="sgd", alpha=0.0, batch_size=work.batch or len(work.x),  # pyright: ignore[reportArgumentType]
        learning_rate_init=work.rate, momentum=0.0, nesterovs_momentum=False, tol=0.0, n_iter_no_change=10**9,
        max_iter=1, warm_start=True, random_state=work.seed,
    )  # fmt: skip

    def fit(epochs: int) -> None:
        model.max_iter = epochs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(work.x, work.y)

    fit(1)

    def run(steps: int) -> Sequence[Any]:
        model.coefs_ = [W.copy() for W, _ in work.layers]
        model.intercepts_ = [b.copy() for _, b in work.layers if b is not None]
        model.n_iter_, model.t_, model.loss_curve_, model._no_improvement_count = 0, 0, [], 0
        fit(steps // work.steps_per_epoch)
        return [leaf for layer in zip(model.coefs_, model.intercepts_, strict=True) for leaf in layer]

    return run


PEERS = (
    Peer(
        "scikit-learn (cross-entropy)", make, slow=True, fits=lambda work: work.orders is not None and work.bias,
        does=own_work,
    ),
)  # fmt: skip
