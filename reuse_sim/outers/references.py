"""What ordinary regressions make of the same examples: beside them, an outer that learns in context is judged.

Each human's answers are predicted from its own m examples alone. An outer has seen other humans too; the
Gaussian process comes nearest to that, as its kernel is fitted to all humans at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.dummy import DummyRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from threadpoolctl import threadpool_limits
from torch import Tensor

Array = NDArray[np.float64]
PENALTIES = tuple(10.0**k for k in range(-4, 5))
NEIGHBOURS = 5
ONE_THREAD = threadpool_limits.wrap(limits=1)  # matrices of some tens of rows are slower on several


@ONE_THREAD
def references(x_context: Tensor, y_context: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Answers `(H, n)` to questions x `(H, n, d)` from examples `(H, m, d)`, `(H, m)`, by name, in float64.

    - `chance`: the mean of the examples;
    - `ridge`: linear, its penalty by leaving one example out;
    - `neighbours`: the mean of the five nearest, weighted by 1 / distance;
    - `gaussian_process`: a squared-exponential kernel with noise, its three parameters at the largest marginal
      likelihood summed over humans.
    """
    arrays = [t.double().numpy() for t in (x_context, y_context, x)]
    kernel = shared_kernel(*arrays[:2])
    models: dict[str, Any] = {
        "chance": DummyRegressor(),
        "ridge": RidgeCV(PENALTIES),
        "neighbours": KNeighborsRegressor(min(NEIGHBOURS, x_context.shape[1]), weights="distance"),
        "gaussian_process": _process(kernel),
    }
    humans = list(zip(*arrays, strict=True))
    return {
        name: torch.as_tensor(np.stack([model.fit(a, b).predict(asked) for a, b, asked in humans]))
        for name, model in models.items()
    }


@ONE_THREAD
def shared_kernel(x: Array, y: Array) -> Any:
    """s² exp(−‖x − x'‖² / 2ℓ²) + σ² δ that maximises the sum of the humans' log marginal likelihoods."""
    variance = max(float(y.var()), 1e-6)
    start: Any = ConstantKernel(variance) * RBF(float(x.std()) * x.shape[-1] ** 0.5) + WhiteKernel(0.1 * variance)
    fits = [_process(start).fit(a, b) for a, b in zip(x, y, strict=True)]

    def loss(theta: Array) -> tuple[float, Array]:
        values = [fit.log_marginal_likelihood(theta, eval_gradient=True) for fit in fits]
        return -sum(value for value, _ in values), -np.sum([slope for _, slope in values], axis=0)

    # A factor of e⁷ either way keeps the covariance well conditioned.
    bounds = [(value - 7, value + 7) for value in start.theta]
    return start.clone_with_theta(minimize(loss, start.theta, jac=True, method="L-BFGS-B", bounds=bounds).x)


def _process(kernel: Any) -> Any:
    as_it_is: Any = {"optimizer": None}
    return GaussianProcessRegressor(kernel, **as_it_is)
