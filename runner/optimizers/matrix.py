"""Rules that treat a matrix other than a vector: Adafactor and Muon.

A parameter is given as `(rows, *shape)`, a vector as `(rows, dim)`.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.adam import Moments, adamw, begin_moments
from runner.optimizers.layerwise import Buffer, begin_buffer
from runner.optimizers.update_rule import Takes, UpdateRule, oriented, plus, power, rule, shrunk
from runner.tensors.norms import norm
from runner.tensors.rows import padded

Columns = tuple[Tensor, ...]


def no_steps_of(weight: Tensor) -> Tensor:
    """Return the step count of a first state, of as many dimensions as the weight."""
    return torch.zeros([1] * weight.dim(), dtype=torch.float64, device=weight.device)


def norm_of(values: Tensor) -> Tensor:
    """Return the norms of the parameters `(rows, *shape)`, `(rows, 1...)`."""
    length = norm(values.flatten(1))
    return length.reshape(-1, *[1] * (values.dim() - 1))


class Factors(NamedTuple):
    """The state of Adafactor.

    Attributes:
        step: the step count in float64.
        row: the mean of squares of gradients along each row of a matrix; of a vector, of each number.
        column: the mean along each column; of a vector, nothing.
    """

    step: Tensor
    row: Tensor
    column: Tensor


def _begin_factors(weight: Tensor, **_hyper: Any) -> Factors:
    if weight.dim() == 2:
        return Factors(no_steps_of(weight), torch.zeros_like(weight), weight.new_zeros(()))
    return Factors(no_steps_of(weight), torch.zeros_like(weight[..., :1]), torch.zeros_like(weight[..., :1, :]))


@rule(_begin_factors, takes=Takes.SHAPES)
def adafactor(
    weight: Tensor,
    gradient: Tensor,
    state: Factors,
    *,
    lr: Tensor,
    beta2_decay: Tensor,
    eps: tuple[Tensor | None, Tensor],
    d: Tensor,
    weight_decay: Tensor | None,
    maximize: bool,
) -> tuple[Tensor, Factors]:
    """`w = w - a * u / max(1, rms(u) / d)`, `u = g / sqrt(v)`, `a = max(eps[1], rms(w)) * min(lr, 1 / sqrt(step))`.

    v of a matrix is `r c / mean(r)`, r and c the means of `g**2` along its rows and columns: torch's Adafactor.

    Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.
    """
    gradient, step, dtype = oriented(gradient, maximize), state.step + 1, weight.dtype
    least = torch.finfo(dtype).eps if eps[0] is None else eps[0].to(dtype)
    faded = power(padded(step.expand(len(beta2_decay), *step.shape[1:])), padded(beta2_decay), len(beta2_decay))
    take, root = faded.to(dtype), math.sqrt(weight[0].numel())
    length = norm_of(weight).to(torch.float64) / root
    alpha = torch.maximum(eps[1], length) * torch.minimum(lr, 1 / step.sqrt())
    weight = shrunk(weight, lr, weight_decay)
    if weight.dim() == 2:
        row, column = torch.lerp(state.row, gradient * gradient, take), state.column
        estimate = row
    else:
        across = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True).square() / gradient.shape[-1]
        down = torch.linalg.vector_norm(gradient, dim=-2, keepdim=True).square() / gradient.shape[-2]
        row, column = torch.lerp(state.row, across, take), torch.lerp(state.column, down, take)
        estimate = row * column / row.mean(dim=-2, keepdim=True).clamp(min=least)
    update = estimate.clamp(min=least * least).rsqrt() * gradient
    above = (norm_of(update).to(torch.float64) / (root * d)).clamp(min=1)
    return plus(weight, -alpha / above, update), Factors(step, row, column)


def _begin_companion(weight: Tensor, *, adamw_betas: Columns, adamw_eps: Tensor, **_hyper: Any) -> Moments:
    return begin_moments(weight, betas=adamw_betas, eps=adamw_eps)


def _companion(
    weight: Tensor,
    gradient: Tensor,
    state: Moments,
    *,
    lr: Tensor,
    adamw_lr: Tensor | None,
    adamw_betas: tuple[Tensor, Tensor],
    adamw_eps: Tensor,
    adamw_weight_decay: Tensor | None,
    maximize: bool,
    **_unused: Any,
) -> tuple[Tensor, Moments]:
    return adamw(
        weight, gradient, state, lr=lr if adamw_lr is None else adamw_lr, betas=adamw_betas, eps=adamw_eps,
        weight_decay=adamw_weight_decay, maximize=maximize, amsgrad=False,
    )  # fmt: skip


@rule(
    begin_buffer,
    takes=Takes.SHAPES,
    companion=UpdateRule(_begin_companion, _companion, casts_lr=False),
    needs_matrix=True,
)
def muon(
    weight: Tensor,
    gradient: Tensor,
    state: Buffer,
    *,
    lr: Tensor,
    weight_decay: Tensor | None,
    momentum: Tensor | None,
    nesterov: bool,
    ns_coefficients: tuple[float, float, float],
    eps: Tensor,
    ns_steps: int,
    adjust_lr_fn: str | None,
    adamw_lr: Tensor | None,  # noqa: ARG001  # of the companion, as the following
    adamw_betas: Columns,  # noqa: ARG001
    adamw_eps: Tensor,  # noqa: ARG001
    adamw_weight_decay: Tensor | None,  # noqa: ARG001
    maximize: bool,
) -> tuple[Tensor, Buffer]:
    """`w = (1 - lr * weight_decay) * w - lr * scale * O`, O the orthogonal matrix nearest to the momentum.

    torch's Muon: `b = b + (1 - momentum) * (g - b)`, the momentum is b, or with `nesterov` `g + momentum * (b - g)`; O
    is found to a few percent by `ns_steps` Newton-Schulz iterations in bfloat16. Of more than two dimensions, all but
    the first count as one. What is no matrix moves by AdamW with the keys `adamw_...`; a null `adamw_lr` is `lr`, a
    number does not follow the schedule.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; `match_rms_adamw` from Liu et al.,
    "Muon is scalable for LLM training", 2025.
    """
    gradient, dtype = oriented(gradient, maximize), weight.dtype
    keep = torch.zeros_like(lr) if momentum is None else momentum
    buffer = torch.lerp(state.buffer, gradient, (1 - keep).to(dtype))
    update = torch.lerp(gradient, buffer, keep.to(dtype)) if nesterov else buffer
    made = _orthogonal(update.flatten(2), ns_coefficients, ns_steps, eps)
    high, wide = made.shape[1:]
    scale = 0.2 * math.sqrt(max(high, wide)) if adjust_lr_fn == "match_rms_adamw" else math.sqrt(max(1, high / wide))
    weight = shrunk(weight, lr, weight_decay)
    return plus(weight, -lr * scale, made.to(dtype).reshape(weight.shape)), Buffer(buffer)


def _orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: Tensor) -> Tensor:
    """Return the nearly orthogonal matrices nearest to matrices `(rows, high, wide)`, in bfloat16."""
    first, second, third = coefficients
    is_high = matrix.shape[1] > matrix.shape[2]
    made = matrix.to(torch.bfloat16)
    made = made.mT if is_high else made
    length = torch.linalg.vector_norm(made.reshape(len(made), -1), dim=-1)[:, None, None]
    made = made / torch.maximum(length, eps.to(torch.bfloat16))
    for _ in range(steps):
        gram = torch.bmm(made, made.mT)
        update = torch.baddbmm(gram, gram, gram, beta=second, alpha=third)
        made = torch.baddbmm(made, update, made, beta=first)
    return made.mT if is_high else made
