"""A compiled program makes the steps of torch's kernels, and auto never gives another digit."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils import _pytree as pytree

from runner.config.schema import Config
from runner.engine import auto, engines
from runner.engine.batches import Member, member_of
from runner.engine.descent import Block
from runner.engine.problem import prepare
from runner.engine.progress import Descent
from runner.messages.errors import UserError
from runner.sweeps.fingerprint import fingerprint
from tests.support.compiler import with_compiler
from tests.support.descents import done, member
from tests.support.random_runs import random_config

pytestmark = pytest.mark.xdist_group("compiled")
STEPS = 400
NOWHERE = {"name": "off", "uri": None, "experiment": None, "artifacts": None, "offline": None}
# Adam with noise, a schedule and clipping on two coordinates: most kinds of state and inputs.
ASKED = ["objective=rosenbrock", "optimizer=adam", "schedule=cosine", "gradient_noise=0.1", "clip_norm=2"]


@pytest.fixture(scope="module", autouse=True)
def _cache(programs: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        with_compiler(patch, programs)
        yield


@pytest.fixture
def _eager_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let auto compile and take programs for short descents too."""
    for name in ("WORTH_A_LOOK", "WORTH_COMPILING", "LONG"):
        monkeypatch.setattr(auto, name, 0)
    monkeypatch.setattr(auto, "FIRST_BLOCK", 64)


def members(engine: str, *overrides: str, runs: int = 70) -> list[Member]:
    config = member(*ASKED, f"steps={STEPS}", f"engine={engine}", *overrides).config
    return [member_of(replace(config, lr=1e-4 * run, seed=run)) for run in range(1, runs + 1)]


def steps(runs: list[Member], wait: bool = False) -> tuple[list[Block], str | None]:
    """Return the blocks of a descent, and which steps were compiled; `wait` until a compilation is ready."""
    batch = prepare(runs)
    engine = engines.engine_of(batch)
    descent = Descent(batch, engine=engine)
    blocks = []
    for passed in descent.blocks():
        blocks.append(passed.block)
        if wait and isinstance(engine, auto.Auto) and engine._compilation is not None:
            engine._compilation.wait()
    engines.close(engine)
    return blocks, engines.described(engine)


def joined(blocks: list[Block]) -> list[torch.Tensor]:
    parts = [(block.loss, block.gradient, block.weight, block.lr) for block in blocks]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def are_equal(one: list[Block], other: list[Block], run: int | None = None) -> bool:
    chosen = slice(None) if run is None else slice(run, run + 1)
    made = min(sum(len(block.loss) for block in blocks) for blocks in (one, other))  # blocks may end after the last run
    pairs = zip(joined(one), joined(other), strict=True)
    return all(torch.equal(a[:made, chosen].nan_to_num(), b[:made].nan_to_num()) for a, b in pairs)


@pytest.mark.usefixtures("_eager_to_compile")
def test_auto_with_a_cold_and_a_warm_cache_gives_the_bits_of_torchs_kernels() -> None:
    eager, said = steps(members("eager"))
    assert said is None
    cold, first = steps(members("auto"), wait=True)
    assert first is not None
    assert first.startswith("compiled from step ")
    warm, second = steps(members("auto"))
    assert second is not None
    assert int(second.split()[3]) < STEPS / 2
    compiled, third = steps(members("compiled"))
    assert third == "compiled"
    assert are_equal(eager, cold)
    assert are_equal(eager, warm)
    assert are_equal(eager, compiled)
    for run in (0, 33, 69):  # runs alone take the same program
        alone, _ = steps(members("compiled")[run : run + 1])
        assert are_equal(compiled, alone, run)


@pytest.mark.usefixtures("_eager_to_compile")
def test_random_runs_have_the_same_bits_by_each_engine_whatever_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "FIRST_BLOCK", 5)
    rng, said = random.Random(3), list[str | None]()
    for index in (0, 9, 22):
        config = replace(random_config(rng, index, NOWHERE), steps=60)

        def made(engine: str, config: Config = config) -> tuple[list[Block], str | None]:
            runs = [replace(config, engine=engine, lr=config.lr * part) for part in (0.5, 1.0, 1.5)]
            return steps([member_of(run) for run in runs], wait=True)

        eager, _ = made("eager")
        (cold, first), (warm, second), (compiled, _) = made("auto"), made("auto"), made("compiled")
        assert are_equal(eager, cold), config
        assert are_equal(eager, warm), config
        assert are_equal(eager, compiled), config
        said += [first, second]
    assert sum("compiled from step" in (one or "") for one in said) >= 4, said


@pytest.mark.usefixtures("_eager_to_compile")
def test_auto_does_not_take_a_program_that_makes_other_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.engine import compiled

    once = compiled.ProgramRunner.once

    def other(self: compiled.ProgramRunner, *given: object) -> object:
        made = once(self, *given)  # type: ignore[arg-type]
        next(one for one in pytree.tree_leaves(made[1]) if one is not None)[0, 0] += 1e-3
        return made

    monkeypatch.setattr(compiled.ProgramRunner, "once", other)
    blocks, said = steps(members("auto"), wait=True)
    assert said == "eager: the program does not repeat the steps to the bit"
    assert are_equal(steps(members("eager"))[0], blocks)


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["optimizer=torch", "optimizer.algorithm=SGD"], "the optimizer is a class of torch.optim"),
    ],
)
def test_what_cannot_be_compiled_is_refused_in_a_line_that_says_why(overrides: list[str], why: str) -> None:
    with pytest.raises(UserError, match=f"engine=compiled: {why}.*, expected engine=auto or engine=eager"):
        done(*overrides, "engine=compiled", "steps=2")


def test_without_a_compiler_compiled_is_refused_and_auto_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"engine=compiled: there is no C\+\+ compiler; install g\+\+"):
        done("engine=compiled", "optimizer=momentum", "steps=3")
    monkeypatch.setattr(auto, "WORTH_COMPILING", 0)
    result, _ = done("engine=auto", "optimizer=momentum", "steps=4096", "log_every=4096")
    assert result.engine is None


def test_resume_tells_compiled_runs_from_the_others() -> None:
    seen = {engine: fingerprint(member(f"engine={engine}").config) for engine in ("auto", "eager", "compiled")}
    assert seen["auto"] == seen["eager"] != seen["compiled"]
