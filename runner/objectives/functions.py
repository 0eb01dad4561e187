"""Built-in objectives: functions `(..., dim) -> (...)` with parameters of shape `(...)`.

To add one, write it here, register it with the dimensions it allows, and give it a file in conf/objective/.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.tensors.norms import norm
from runner.tensors.products import product

ObjectiveFunction = Callable[..., Tensor]


@dataclass(frozen=True)
class RegisteredFunction:
    """A function and the dimensions it allows.

    Attributes:
        loss: the function.
        smallest: the smallest dimension.
        largest: the largest dimension; None for no limit.
    """

    loss: ObjectiveFunction
    smallest: int
    largest: int | None


FUNCTIONS: dict[str, RegisteredFunction] = {}


def function(smallest: int = 1, largest: int | None = None) -> Callable[[ObjectiveFunction], ObjectiveFunction]:
    """Register a function under its name; arguments as the attributes of `RegisteredFunction`."""

    def register(loss: ObjectiveFunction) -> ObjectiveFunction:
        FUNCTIONS[loss.__name__] = RegisteredFunction(loss, smallest, largest)
        return loss

    return register


def _indices(weight: Tensor) -> Tensor:
    return torch.arange(1, weight.shape[-1] + 1, dtype=weight.dtype, device=weight.device)


@function()
def quadratic(weight: Tensor, *, curvature: Tensor, offset: Tensor) -> Tensor:
    """Return `curvature * |w|**2 + offset`."""
    return curvature * (weight * weight).sum(-1) + offset  # weight**2 would make a step a third longer


@function(smallest=2)
def ill_conditioned(weight: Tensor, *, condition: Tensor) -> Tensor:
    """Return `sum(c[i] * w[i]**2) / 2`, `c` spaced geometrically from 1 to `condition`, the condition number.

    The model problem of convergence theory, as in Nocedal and Wright, "Numerical Optimization", 2006, chapter 3.
    """
    share = (_indices(weight) - 1) / (weight.shape[-1] - 1)
    return (condition[..., None] ** share * weight**2).sum(-1) / 2


@function(smallest=2)
def rosenbrock(weight: Tensor, *, steepness: Tensor) -> Tensor:
    """Return `sum((1 - w[i])**2 + steepness * (w[i+1] - w[i]**2)**2)`.

    Rosenbrock, "An automatic method for finding the greatest or least value of a function", 1960.
    """
    here, following = weight[..., :-1], weight[..., 1:]
    return ((1 - here) ** 2 + steepness[..., None] * (following - here**2) ** 2).sum(-1)


@function(smallest=2, largest=2)
def himmelblau(weight: Tensor) -> Tensor:
    """Return `(x**2 + y - 11)**2 + (x + y**2 - 7)**2`.

    Himmelblau, "Applied Nonlinear Programming", 1972.
    """
    x, y = weight.unbind(-1)
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


@function(smallest=2, largest=2)
def beale(weight: Tensor) -> Tensor:
    """Return `(1.5 - x + x*y)**2 + (2.25 - x + x*y**2)**2 + (2.625 - x + x*y**3)**2`.

    Beale, "On an iterative method for finding a local minimum of a function of more than one variable", 1958.
    """
    x, y = weight.unbind(-1)
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


@function(smallest=2, largest=2)
def booth(weight: Tensor) -> Tensor:
    """Return `(x + 2*y - 7)**2 + (2*x + y - 5)**2`.

    Booth; in Jamil and Yang, "A literature survey of benchmark functions for global optimisation problems", 2013.
    """
    x, y = weight.unbind(-1)
    return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


@function(smallest=2, largest=2)
def matyas(weight: Tensor) -> Tensor:
    """Return `0.26 * (x**2 + y**2) - 0.48 * x * y`.

    Matyas; in Jamil and Yang, "A literature survey of benchmark functions for global optimisation problems", 2013.
    """
    x, y = weight.unbind(-1)
    return 0.26 * (x**2 + y**2) - 0.48 * x * y


@function()
def rastrigin(weight: Tensor, *, amplitude: Tensor) -> Tensor:
    """Return `sum(w[i]**2 + amplitude * (1 - cos(2*pi*w[i])))`.

    Rastrigin, "Systems of Extremal Control", 1974; in any dimension Rudolph, 1990.
    """
    return (weight**2 + amplitude[..., None] * (1 - torch.cos(2 * math.pi * weight))).sum(-1)


@function()
def ackley(weight: Tensor) -> Tensor:
    """Return `-20*exp(-0.2*sqrt(mean(w**2))) - exp(mean(cos(2*pi*w))) + 20 + e`.

    It is not differentiable at its minimum; the gradient there is defined as 0.

    Ackley, "A Connectionist Machine for Genetic Hillclimbing", 1987.
    """
    spread = norm(weight)[..., 0] / math.sqrt(weight.shape[-1])
    return -20 * torch.expm1(-0.2 * spread) + math.e - torch.exp(torch.cos(2 * math.pi * weight).mean(-1))


@function()
def styblinski_tang(weight: Tensor) -> Tensor:
    """Return `sum(w**4 - 16*w**2 + 5*w) / 2`.

    Styblinski and Tang, "Experiments in nonconvex optimization", 1990.
    """
    return (weight**4 - 16 * weight**2 + 5 * weight).sum(-1) / 2


@function()
def griewank(weight: Tensor) -> Tensor:
    """Return `1 + sum(w**2) / 4000 - prod(cos(w[i] / sqrt(i)))`.

    Griewank, "Generalized descent for global optimization", 1981.
    """
    waves = torch.cos(weight / _indices(weight).sqrt())  # no floating-point number has the cosine 0
    return 1 + (weight**2).sum(-1) / 4000 - product(waves)


@function()
def levy(weight: Tensor) -> Tensor:
    """Return Levy's function of `v = 1 + (w - 1) / 4`.

    That is `sin(pi*v[1])**2 + sum((v[i]-1)**2 * (1 + 10*sin(pi*v[i]+1)**2)) + (v[n]-1)**2 * (1 + sin(2*pi*v[n])**2)`.

    Levy and Montalvo, "The tunneling algorithm for the global minimization of functions", 1985.
    """
    v = 1 + (weight - 1) / 4
    first, inner, last = v[..., 0], v[..., :-1], v[..., -1]
    middle = ((inner - 1) ** 2 * (1 + 10 * torch.sin(math.pi * inner + 1) ** 2)).sum(-1)
    return torch.sin(math.pi * first) ** 2 + middle + (last - 1) ** 2 * (1 + torch.sin(2 * math.pi * last) ** 2)


@function(smallest=2, largest=2)
def branin(weight: Tensor) -> Tensor:
    """Return `(y - 5.1/(4*pi**2)*x**2 + 5/pi*x - 6)**2 + 10*(1 - 1/(8*pi))*cos(x) + 10`.

    Branin, "Widely convergent method for finding multiple solutions of simultaneous nonlinear equations", 1972.
    """
    x, y = weight.unbind(-1)
    bowl = (y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * math.pi)) * torch.cos(x) + 10


@function(smallest=2, largest=2)
def goldstein_price(weight: Tensor) -> Tensor:
    """Return the product of two polynomials of degree four by Goldstein and Price.

    Goldstein and Price, "On descent from local minima", 1971.
    """
    x, y = weight.unbind(-1)
    left = 1 + (x + y + 1) ** 2 * (19 - 14 * x + 3 * x**2 - 14 * y + 6 * x * y + 3 * y**2)
    right = 30 + (2 * x - 3 * y) ** 2 * (18 - 32 * x + 12 * x**2 + 48 * y - 36 * x * y + 27 * y**2)
    return left * right


@function(smallest=2, largest=2)
def three_hump_camel(weight: Tensor) -> Tensor:
    """Return `2*x**2 - 1.05*x**4 + x**6/6 + x*y + y**2`.

    Branin; in Dixon and Szego, "Towards Global Optimisation", 1975.
    """
    x, y = weight.unbind(-1)
    return 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2


@function(smallest=2, largest=2)
def six_hump_camel(weight: Tensor) -> Tensor:
    """Return `(4 - 2.1*x**2 + x**4/3)*x**2 + x*y + (4*y**2 - 4)*y**2`.

    Dixon and Szego, "The global optimization problem: an introduction", 1978.
    """
    x, y = weight.unbind(-1)
    return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2


@function(smallest=2, largest=2)
def easom(weight: Tensor) -> Tensor:
    """Return `-cos(x) * cos(y) * exp(-(x - pi)**2 - (y - pi)**2)`.

    Easom, "A survey of global optimization techniques", 1990.
    """
    x, y = weight.unbind(-1)
    return -torch.cos(x) * torch.cos(y) * torch.exp(-((x - math.pi) ** 2) - (y - math.pi) ** 2)


@function(smallest=2, largest=2)
def mccormick(weight: Tensor) -> Tensor:
    """Return `sin(x + y) + (x - y)**2 - 1.5*x + 2.5*y + 1`.

    McCormick, "Computability of global solutions to factorable nonconvex programs", 1976.
    """
    x, y = weight.unbind(-1)
    return torch.sin(x + y) + (x - y) ** 2 - 1.5 * x + 2.5 * y + 1


@function()
def zakharov(weight: Tensor) -> Tensor:
    """Return `sum(w**2) + t**2 + t**4` with `t = sum(i * w[i]) / 2`.

    Zakharov; in Rahnamayan, Tizhoosh and Salama, "A novel population initialization method", 2007.
    """
    tilt = (_indices(weight) * weight).sum(-1) / 2
    return (weight**2).sum(-1) + tilt**2 + tilt**4


@function()
def dixon_price(weight: Tensor) -> Tensor:
    """Return `(w[1] - 1)**2 + sum(i * (2*w[i]**2 - w[i-1])**2)` for `i` from 2.

    Dixon and Price, "Truncated Newton method for sparse unconstrained optimization", 1989.
    """
    chain = _indices(weight)[1:] * (2 * weight[..., 1:] ** 2 - weight[..., :-1]) ** 2
    return (weight[..., 0] - 1) ** 2 + chain.sum(-1)
