"""Rules that turn the gradient of a matrix into the eigenbases of its mean products: Shampoo and SOAP.

Each dimension of a parameter `(rows, *shape)` has a matrix of its own, the sum or the mean of `G G'`, G the gradient
unfolded along it. The matrices are decomposed only in the steps that need it, unless torch traces the step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.matrix import no_steps_of
from runner.optimizers.update_rule import Takes, decayed, oriented, plus, power, rule, with_decay
from runner.tensors.rows import padded
from runner.tensors.shapes import Shapes
from runner.tensors.tracing import is_traced

Matrices = tuple[Tensor, ...]


def _along(matrix: Tensor, values: Tensor, axis: int) -> Tensor:
    """Return values `(rows, *shape)` multiplied by matrices `(rows, n, n)` along an axis of length n."""
    first = values.movedim(axis, 1)
    return torch.bmm(matrix, _unfolded(first)).reshape(first.shape).movedim(1, axis)


def _unfolded(values: Tensor) -> Tensor:
    """Return values `(rows, n, ...)` as matrices `(rows, n, m)`."""
    return values.reshape(*values.shape[:2], -1)


def _product(gradient: Tensor, axis: int) -> Tensor:
    """Return `G G'`, `(rows, n, n)`, for the gradient unfolded along an axis of length n."""
    unfolded = _unfolded(gradient.movedim(axis, 1))
    return torch.bmm(unfolded, unfolded.mT)


def _where(mask: Tensor, make: Callable[[], Matrices], old: Matrices) -> Matrices:
    """Return matrices that are made anew where the mask is true; nothing is made where it is nowhere true."""
    if not is_traced() and not bool(mask.any()):
        return old
    mask = mask.reshape(-1, 1, 1)
    return tuple(torch.where(mask, new, kept) for new, kept in zip(make(), old, strict=True))


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors; NaN where the matrix is not finite."""
    is_finite = matrix.isfinite().flatten(1).all(-1)[:, None, None]
    unit = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    values, vectors = torch.linalg.eigh(torch.where(is_finite, matrix, unit))
    return values, torch.where(is_finite, vectors, torch.nan)


def _squares(weight: Tensor, scale: float) -> Matrices:
    return tuple(
        scale * torch.eye(size, dtype=weight.dtype, device=weight.device).expand(len(weight), -1, -1).clone()
        for size in weight.shape[1:]
    )


def _numbers(shapes: Shapes, **_settings: Any) -> int:
    """Return about how many numbers the matrices of all dimensions take."""
    return 4 * sum(size**2 for _, shape in shapes.named for size in shape)


class Roots(NamedTuple):
    """The state of Shampoo.

    Attributes:
        step: the step count in float64.
        buffer: the direction of the step before.
        sums: of the products, and a little of the unit matrix, for each dimension.
        roots: their inverse roots.
    """

    step: Tensor
    buffer: Tensor
    sums: Matrices
    roots: Matrices


def _begin_roots(weight: Tensor, *, matrix_eps: Tensor, **_hyper: Any) -> Roots:
    little = matrix_eps.to(weight.dtype).reshape(-1, 1, 1)
    sums = tuple(little * unit for unit in _squares(weight, 1.0))
    return Roots(no_steps_of(weight), torch.zeros_like(weight), sums, _squares(weight, 0.0))


@rule(_begin_roots, takes=Takes.SHAPES, numbers=_numbers)
def shampoo(
    weight: Tensor,
    gradient: Tensor,
    state: Roots,
    *,
    lr: Tensor,
    momentum: Tensor | None,
    weight_decay: Tensor | None,
    weight_decouple: bool,
    fixed_decay: bool,
    preconditioning_compute_steps: Tensor,
    matrix_eps: Tensor,
    maximize: bool,
) -> tuple[Tensor, Roots]:
    """`w = w - lr * L**(-1/4) g R**(-1/4)`, L and R the sums of `g g'` and of `g' g`; of n dimensions, `-1 / (2 n)`.

    Equal to Shampoo of pytorch_optimizer. As there, `momentum` mixes the direction of the step before into g, and a
    vector has a matrix too.

    Gupta, Koren and Singer, "Shampoo: preconditioned stochastic tensor optimization", 2018.
    """
    gradient, step, axes = oriented(gradient, maximize), state.step + 1, range(1, weight.dim())
    if momentum is not None:
        buffer = torch.where(state.step == 0, gradient, state.buffer)
        gradient = torch.lerp(gradient, buffer, momentum.to(weight.dtype))
    weight, gradient = with_decay(weight, gradient, lr, weight_decay, weight_decouple, fixed_decay)
    sums = tuple(total + _product(gradient, axis) for total, axis in zip(state.sums, axes, strict=True))

    def roots() -> Matrices:
        return tuple(_inverse_root(total, 2 * len(axes), matrix_eps) for total in sums)

    made = _where(step.remainder(preconditioning_compute_steps) == 0, roots, state.roots)
    direction = gradient
    for root, axis in zip(made, axes, strict=True):
        direction = _along(root, direction, axis)
    return plus(weight, -lr, direction), Roots(step, direction, sums, made)


def _inverse_root(matrix: Tensor, degree: int, least: Tensor) -> Tensor:
    """Return `matrix**(-1 / degree)`; an eigenvalue below the part of the unit matrix in it is a rounding error."""
    values, vectors = _eigen(matrix)
    # Powers of so many numbers as there are rows by the 64 round alike at any place.
    scales = padded(torch.maximum(values, least.to(values.dtype).reshape(-1, 1))).pow(-1 / degree)[: len(values)]
    return torch.bmm(vectors * scales[:, None, :], vectors.mT)


class Bases(NamedTuple):
    """The state of SOAP.

    Attributes:
        step: the step count in float64; the first step only makes the bases.
        mean: of gradients.
        square: the mean of squares of gradients in the bases.
        means: of the products, for each dimension.
        bases: their eigenvectors, the largest first.
    """

    step: Tensor
    mean: Tensor
    square: Tensor
    means: Matrices
    bases: Matrices


def _begin_bases(weight: Tensor, **_hyper: Any) -> Bases:
    nothing = torch.zeros_like(weight)
    return Bases(no_steps_of(weight), nothing, nothing.clone(), _squares(weight, 0.0), _squares(weight, 1.0))


@rule(_begin_bases, takes=Takes.SHAPES, numbers=_numbers)
def soap(
    weight: Tensor,
    gradient: Tensor,
    state: Bases,
    *,
    lr: Tensor,
    betas: tuple[Tensor, Tensor],
    shampoo_beta: Tensor | None,
    weight_decay: Tensor | None,
    precondition_frequency: Tensor,
    precondition_1d: bool,
    correct_bias: bool,
    normalize_gradient: bool,
    eps: Tensor,
    maximize: bool,
) -> tuple[Tensor, Bases]:
    """Adam in the eigenbases of Shampoo's matrices, which a step of power iteration and QR renews now and then.

    Equal to SOAP of pytorch_optimizer but for the signs of eigenvectors, which are free. The first step makes the bases
    alone. Vectors have no matrix, unless `precondition_1d`.

    Vyas et al., "SOAP: improving and stabilizing Shampoo using Adam", 2025.
    """
    gradient, dtype, is_first = oriented(gradient, maximize), weight.dtype, state.step == 0
    axes = range(1, weight.dim()) if weight.dim() > 2 or precondition_1d else range(0)
    mean = torch.where(is_first, state.mean, torch.lerp(state.mean, gradient, (1 - betas[0]).to(dtype)))
    seen = _turned(gradient, state.bases, axes)
    square = torch.where(is_first, state.square, torch.lerp(state.square, seen.square(), (1 - betas[1]).to(dtype)))
    direction = _turned(mean, state.bases, axes) / (square.sqrt() + eps.to(dtype))
    direction = _turned(direction, tuple(basis.mT for basis in state.bases), axes)
    if normalize_gradient:
        size = direction.square().flatten(1).mean(-1).sqrt().reshape(eps.shape)
        direction = direction / (size + eps.to(dtype))
    rate = lr
    if correct_bias:
        first, second = (_known(beta, state.step, is_first) for beta in betas)
        rate = lr * second.sqrt() / first
    moved = plus(weight, -rate, direction)
    moved = decayed(moved, moved, None if weight_decay is None else -lr * weight_decay)
    return torch.where(is_first, weight, moved), _renewed(
        state._replace(mean=mean, square=square), gradient, axes, betas[1] if shampoo_beta is None else shampoo_beta,
        precondition_frequency,
    )  # fmt: skip


def _known(beta: Tensor, step: Tensor, is_first: Tensor) -> Tensor:
    """Return `1 - beta**step`; 1 before the first step."""
    steps = padded(step.expand(len(beta), *step.shape[1:]))
    return torch.where(is_first, 1.0, 1 - power(padded(beta), steps, len(beta)))


def _turned(values: Tensor, bases: Matrices, axes: range) -> Tensor:
    """Return values in the bases."""
    for axis in axes:
        values = _along(bases[axis - 1].mT, values, axis)
    return values


def _renewed(state: Bases, gradient: Tensor, axes: range, beta: Tensor, frequency: Tensor) -> Bases:
    """Return the state with the gradient in its matrices, and, in some steps, with new bases."""
    take, means, bases = (1 - beta).to(gradient.dtype).reshape(-1, 1, 1), list(state.means), list(state.bases)
    for axis in axes:
        means[axis - 1] = torch.lerp(means[axis - 1], _product(gradient, axis), take)
    square, is_first = state.square, state.step == 0
    is_due = ~is_first & (state.step.remainder(frequency) == 0)
    for axis in axes:
        matrix, basis = means[axis - 1], bases[axis - 1]
        (basis,) = _where(is_first, lambda matrix=matrix: (_eigen(matrix)[1].flip(-1),), (basis,))  # type: ignore[misc]
        if is_traced() or bool(is_due.any()):
            turned, order = _iterated(matrix, basis)
            basis = torch.where(is_due.reshape(-1, 1, 1), turned, basis)
            shape = [len(order)] + [1] * (square.dim() - 1)
            shape[axis] = order.shape[1]
            sorted_square = square.take_along_dim(order.reshape(shape), dim=axis)
            square = torch.where(is_due, sorted_square, square)
        bases[axis - 1] = basis
    return Bases(state.step + 1, state.mean, square, tuple(means), tuple(bases))


def _iterated(matrix: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the basis after a step of power iteration, and the order `(rows, n)` of the eigenvalues, largest first."""
    product = torch.bmm(matrix, basis)
    order = (basis * product).sum(1).argsort(dim=-1, descending=True)
    sorted_product = product.take_along_dim(order[:, None, :], dim=2)
    basis, _ = torch.linalg.qr(sorted_product)
    return basis, order
