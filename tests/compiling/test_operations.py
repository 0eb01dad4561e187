"""The translated operations round as torch's kernels do, to the bit."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from runner.compiling.memory import ReusedMemory
from runner.compiling.programs import compiled_file
from runner.compiling.recording import CannotCompileError, Recording
from runner.compiling.running import TranslatedProgram
from runner.compiling.translation import translated
from tests.support.compiler import with_compiler

pytestmark = pytest.mark.xdist_group("compiled")
ROWS = 64 * 64
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
OF_ONE = (
    "neg abs sqrt reciprocal rsqrt floor ceil trunc round exp log sin cos tan tanh acos asin atan erf log2 log10 expm1 "
    "log1p sigmoid sign exp2 sinh cosh square relu isnan"
)
OF_TWO = "add sub mul div maximum minimum atan2 remainder eq lt ge"
OPERATIONS: dict[str, Operation] = {
    **{name: lambda x, _y, _z, name=name: getattr(torch, name)(x) for name in OF_ONE.split()},  # type: ignore[misc]
    **{name: lambda x, y, _z, name=name: getattr(torch, name)(x, y) for name in OF_TWO.split()},  # type: ignore[misc]
    "addcmul": lambda x, y, z: torch.addcmul(x, y, z, value=0.3),
    "addcdiv": lambda x, y, z: torch.addcdiv(x, y, z, value=0.3),
    "remainder of a number": lambda x, _y, _z: x * (torch.full((1, 1), 7.5) % 2),
    "lerp": torch.lerp,
    "lerp by a column": lambda x, y, z: torch.lerp(x, y, z[:, :1]),
    "a multiple": lambda x, y, _z: torch.add(x, y, alpha=0.3),
    "from 1": lambda x, _y, _z: torch.rsub(x, 1, alpha=0.5),
    "power": lambda x, y, _z: x.abs() ** y,
    "power by a column": lambda x, y, _z: x.abs() ** y[:, :1],
    "power of a column": lambda x, _y, _z: x[:, 0] ** 4,
    "power of 0.96": lambda x, _y, _z: 0.96**x,
    **{f"power {to}": lambda x, _y, _z, to=to: x**to for to in (3, 4, 0.5, -1, -2, 1.5)},  # type: ignore[misc]
    "clamped": lambda x, _y, _z: x.clamp(-1, 1),
    "clamped below": lambda x, _y, _z: x.clamp(min=0.3),
    "clamped by columns": lambda x, y, z: x.clamp(y[:, :1], z[:, :1]),
    "chosen": lambda x, y, z: torch.where(x > y, x, z),
    "mixed dtypes": lambda x, y, _z: x * y.to(torch.float64),
    "softplus": lambda x, _y, _z: torch.nn.functional.softplus(x),
}
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda x: x.sum(-1),
    "prod": lambda x: x.prod(-1),
    "amax": lambda x: x.amax(-1),
    "amin": lambda x: (-x).amin(-1),
    "norm": lambda x: torch.linalg.vector_norm(x, dim=-1),
}
# Of these, kernels take a row by itself: some of its numbers in vectors, the others alone.
IN_ROWS: dict[str, Operation] = {
    "power": lambda x, y, _z: x.abs() ** y[:, :1],
    "power by constants": lambda x, _y, _z: x[:, :1].abs() ** torch.linspace(0, 2, x.shape[1], dtype=x.dtype),
    "power of a part": lambda x, y, _z: x.abs()[:, 1:] ** y[:, 1:],
    "power 1.5": lambda x, _y, _z: x.abs()[:, 1:] ** 1.5,
    "maximum": lambda x, y, _z: torch.maximum(x, y[:, :1]),
    "minimum": lambda x, y, _z: torch.minimum(x[:, 1:], y[:, 1:]),
    "clamped": lambda x, y, z: x.clamp(y[:, :1], z[:, :1]),
    "clamped below": lambda x, y, _z: x.clamp(min=y[:, :1]),
    "lerp": lambda x, y, z: torch.lerp(x, y, z[:, :1].sign()),
    "atan2": lambda x, y, _z: torch.atan2(x, y[:, :1]),
    "remainder": lambda x, y, _z: torch.remainder(x, 1e-44 * y[:, :1]),
    **{name: lambda x, _y, _z, name=name: getattr(torch, name)(x[:, 1:]) for name in ("sinh", "cosh", "exp2")},  # type: ignore[misc]
    "sigmoid": lambda x, _y, _z: torch.sigmoid(x[:, 1:]),
    "softplus": lambda x, _y, _z: torch.nn.functional.softplus(x[:, 1:]),
    "softplus backward": lambda x, y, _z: torch.ops.aten.softplus_backward(x[:, 1:], y[:, 1:], 1, 20),
}


def numbers(seed: int) -> Tensor:
    """Return numbers of all sizes, among them zeros, infinities, NaN and a number below the normal ones."""
    random = torch.Generator().manual_seed(seed)
    found = torch.randn(ROWS, 2, generator=random, dtype=torch.float64)
    found[::3] *= 10 ** (torch.rand(found[::3].shape, generator=random, dtype=torch.float64) * 40 - 20)
    found[7::64] = found[7::64].round()
    found[100:106, 0] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-42], dtype=torch.float64)
    return found.to(torch.float32)


def wide(seed: int, count: int, dtype: torch.dtype) -> Tensor:
    """Return rows of numbers whose products stay finite, zeros of either sign among them."""
    found = torch.randn(64, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found[7::16] = found[7::16].round()
    return found.to(dtype)


def same(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    bits = torch.int32 if one.dtype == torch.float32 else torch.int64
    return bool(((one.view(bits) == other.view(bits)) | (one.isnan() & other.isnan())).all())


def others(operations: Mapping[str, Operation], x: Tensor, y: Tensor, z: Tensor) -> list[str]:
    """Return the names of the operations that a program does not round as torch does."""

    def step(carry: tuple[Tensor], inputs: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor], tuple[Tensor, ...]]:
        return carry, tuple(made(*carry, *inputs) for made in operations.values())

    translation = translated(Recording.of(step, (x,), (y, z), at_once=True), len(x))
    assert not translation.inexact
    program = TranslatedProgram(compiled_file(translation.source), translation, len(x), len(x))
    outputs = program.form.new_outputs(1, len(x), ReusedMemory())
    program((x,), (y[None], z[None]), 1, outputs, 0)
    expected = step((x,), (y, z))[1]
    pairs = zip(operations, expected, outputs, strict=True)
    return [name for name, one, other in pairs if other is None or not same(one, other[0])]


def test_each_operation_rounds_as_torch_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_compiler(monkeypatch, tmp_path)
    assert others(OPERATIONS, *map(numbers, range(3))) == []


# For each dtype, more numbers than fit four vectors of a reduction, or two of any other kernel.
MANY = {torch.float32: 37, torch.float64: 21}


@pytest.mark.parametrize("dtype", MANY)
def test_reductions_of_any_length_round_as_torch_s_do(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_compiler(monkeypatch, tmp_path)
    reduced: dict[str, Operation] = {
        f"{name} of {length}": lambda x, _y, _z, made=made, length=length: made(x[:, :length].contiguous())  # type: ignore[misc]
        for name, made in REDUCTIONS.items()
        for length in (1, 3, 6, MANY[dtype])
    }
    assert others(reduced, *(wide(seed, MANY[dtype], dtype) for seed in range(3))) == []


@pytest.mark.parametrize("dtype", MANY)
def test_numbers_in_vectors_and_alone_round_as_torch_s_do(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_compiler(monkeypatch, tmp_path)
    ends: dict[str, Operation] = {
        name: lambda x, y, z, made=made: torch.stack(made(x, y, z).unbind(-1)[:: MANY[dtype] - 3], -1)  # type: ignore[misc]
        for name, made in IN_ROWS.items()
    }
    assert others(ends, *(wide(seed, MANY[dtype], dtype) for seed in range(3))) == []


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (lambda x: torch.autograd.grad(x.prod(-1), x, torch.ones(64))[0], {"the derivative of prod"}),
        (
            lambda x: torch.autograd.grad(torch.vmap(lambda row: row.prod(-1))(x), x, torch.ones(64))[0],
            {"the derivative of prod"},
        ),
        (lambda x: torch.add(x, x[:, :1], alpha=0.3), {"add"}),
        (lambda x: x[:, None].expand(-1, 2, -1).sum(1), {"sum"}),
        (lambda x: x, set()),
    ],
)
def test_what_may_round_otherwise_is_named(made: Callable[[Tensor], Tensor], names: set[str]) -> None:
    def step(carry: tuple[Tensor], _: tuple[()]) -> tuple[tuple[Tensor], tuple[Tensor]]:
        point = carry[0].detach().requires_grad_()
        return (made(point).detach(),), (carry[0].sum(-1),)

    assert translated(Recording.of(step, (torch.ones(64, 5),), (), at_once=True), 64).inexact == names


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda x: x.flip(0), "several runs"),
        (lambda x: x - x.mean(), "over the runs"),
        (lambda x: x if x.sum() > 0 else -x, "the value of a tensor in Python"),
        (lambda x: x @ torch.ones(2, 2), "multiplies matrices"),
        (lambda x: torch.special.i0(x), "operation .*i0 has no"),
        (lambda x: x.to(torch.float16).to(torch.float32), "float16"),
    ],
)
def test_what_cannot_be_translated_is_refused(made: Callable[[Tensor], Tensor], why: str) -> None:
    weight = torch.ones(64, 2)
    with pytest.raises(CannotCompileError, match=why):
        translated(
            Recording.of(lambda carry, _: ((made(carry[0]),), (carry[0].sum(-1),)), (weight,), (), at_once=True), 64
        )
