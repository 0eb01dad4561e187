"""The translated operations round as torch's kernels do, to the bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from runner.compiling.memory import ReusedMemory
from runner.compiling.programs import Compilation
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
    **{f"sum {n}": lambda x, y, z, n=n: _wide(x, y, z, n).sum(-1) for n in (2, 3, 6, 10, 36)},  # type: ignore[misc]
    **{f"mean {n}": lambda x, y, z, n=n: _wide(x, y, z, n).mean(-1) for n in (3, 7)},  # type: ignore[misc]
    **{f"norm {n}": lambda x, y, z, n=n: torch.linalg.vector_norm(_wide(x, y, z, n), dim=-1) for n in (1, 2, 6, 12)},  # type: ignore[misc]
    "largest": lambda x, y, z: _wide(x, y, z, 6).amax(-1),
    "softplus": lambda x, _y, _z: torch.nn.functional.softplus(x),
}


def _wide(x: Tensor, y: Tensor, z: Tensor, numbers: int) -> Tensor:
    return torch.cat([x, y, z] * (numbers // 6 + 1), -1)[:, :numbers].contiguous()


def numbers(seed: int) -> Tensor:
    """Return numbers of all sizes, among them zeros, infinities, NaN and a number below the normal ones."""
    random = torch.Generator().manual_seed(seed)
    found = torch.randn(ROWS, 2, generator=random, dtype=torch.float64)
    found[::3] *= 10 ** (torch.rand(found[::3].shape, generator=random, dtype=torch.float64) * 40 - 20)
    found[7::64] = found[7::64].round()
    found[100:106, 0] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-42], dtype=torch.float64)
    return found.to(torch.float32)


def same(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    bits = torch.int32 if one.dtype == torch.float32 else torch.int64
    return bool(((one.view(bits) == other.view(bits)) | (one.isnan() & other.isnan())).all())


def test_each_operation_rounds_as_torch_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_compiler(monkeypatch, tmp_path)
    x, y, z = map(numbers, range(3))

    def step(carry: tuple[Tensor], inputs: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor], tuple[Tensor, ...]]:
        return carry, tuple(made(*carry, *inputs) for made in OPERATIONS.values())

    translation = translated(Recording.of(step, (x,), (y, z), at_once=True), ROWS)
    assert not translation.inexact
    program = TranslatedProgram(Compilation(translation.source).wait(), translation, ROWS, ROWS)
    outputs = program.form.new_outputs(1, ROWS, ReusedMemory())
    program((x,), (y[None], z[None]), 1, outputs, 0)
    expected = step((x,), (y, z))[1]
    pairs = zip(OPERATIONS, expected, outputs, strict=True)
    assert [name for name, one, other in pairs if other is None or not same(one, other[0])] == []


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
