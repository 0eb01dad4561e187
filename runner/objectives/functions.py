"""The functions that objectives are made of: `(..., dim) -> (...)`, parameters of shape `(...)`.

To add one, write it here, enter it in FUNCTIONS and give it a file in conf/objective/.
"""

from collections.abc import Callable

from torch import Tensor


def quadratic(weight: Tensor, *, curvature: Tensor, offset: Tensor) -> Tensor:
    """Return `curvature * |w|**2 + offset`."""
    return curvature * (weight**2).sum(-1) + offset


def rosenbrock(weight: Tensor, *, steepness: Tensor) -> Tensor:
    """Return `sum((1 - w[i])**2 + steepness * (w[i+1] - w[i]**2)**2)`.

    Rosenbrock, "An automatic method for finding the greatest or least value of a function", 1960.
    """
    here, following = weight[..., :-1], weight[..., 1:]
    return ((1 - here) ** 2 + steepness[..., None] * (following - here**2) ** 2).sum(-1)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "quadratic": quadratic,
    "rosenbrock": rosenbrock,
}
