"""The residuals of the functions that are sums of squares: `(..., dim) -> (..., n)`.

The sum of their squares is the function, but for a constant.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def quadratic(weight: Tensor, *, curvature: Tensor, offset: Tensor) -> Tensor:  # noqa: ARG001  # a constant
    """Return `sqrt(curvature) * w`."""
    return curvature.sqrt()[..., None] * weight


def rosenbrock(weight: Tensor, *, steepness: Tensor) -> Tensor:
    """Return `1 - w[i]` and `sqrt(steepness) * (w[i+1] - w[i]**2)`."""
    here, following = weight[..., :-1], weight[..., 1:]
    return torch.cat([1 - here, steepness.sqrt()[..., None] * (following - here**2)], -1)


def himmelblau(weight: Tensor) -> Tensor:
    """Return `x**2 + y - 11` and `x + y**2 - 7`."""
    x, y = weight.unbind(-1)
    return torch.stack([x**2 + y - 11, x + y**2 - 7], -1)


def beale(weight: Tensor) -> Tensor:
    """Return `1.5 - x + x*y`, `2.25 - x + x*y**2` and `2.625 - x + x*y**3`."""
    x, y = weight.unbind(-1)
    return torch.stack([1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3], -1)


def booth(weight: Tensor) -> Tensor:
    """Return `x + 2*y - 7` and `2*x + y - 5`."""
    x, y = weight.unbind(-1)
    return torch.stack([x + 2 * y - 7, 2 * x + y - 5], -1)


def dixon_price(weight: Tensor) -> Tensor:
    """Return `w[1] - 1` and `sqrt(i) * (2*w[i]**2 - w[i-1])` for `i` from 2."""
    roots = torch.arange(2, weight.shape[-1] + 1, dtype=weight.dtype, device=weight.device).sqrt()
    return torch.cat([weight[..., :1] - 1, roots * (2 * weight[..., 1:] ** 2 - weight[..., :-1])], -1)


RESIDUALS: dict[str, Callable[..., Tensor]] = {
    each.__name__: each for each in (quadratic, rosenbrock, himmelblau, beale, booth, dixon_price)
}
