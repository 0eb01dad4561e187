"""A batch of runs: each number of each run is that of the run alone, whatever its neighbours are and do."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import optimizers
from runner.composition.composition import config_folder, install
from runner.config.schema import Config
from runner.engine.batches import Member, grouped, member_of, portions
from runner.engine.result import Outcome
from runner.tensors.draws import Noise
from tests.support.batches import assert_equal_to_alone, base, recorded

install()
OBJECTIVES = sorted(path.stem for path in (config_folder() / "objective").glob("*.yaml"))
OPTIMIZERS = sorted(path.stem for path in (config_folder() / "optimizer").glob("*.yaml"))
SCHEDULES = sorted(path.stem for path in (config_folder() / "schedule").glob("*.yaml"))
# One needs a user's code; the classes of torch and of packages run one job at a time, the others need matrices.
CHOSEN = [name for name in OBJECTIVES if name not in ("callable", "module")]
RULES = [name for name in OPTIMIZERS if name in optimizers.RULES and not optimizers.RULES[name].needs_matrix]
DENSE = ["newton", "bfgs", "levenberg_marquardt"]  # too slow in many dimensions
LEAST_SQUARES = [name for name in RULES if optimizers.RULES[name].needs_residuals]


@st.composite
def variants(draw: st.DrawFn, config: Config) -> list[Config]:
    # Learning problems cost far more a row than functions do.
    count = draw(st.integers(2, 20 if "dataset" in config.objective.parameters else 150))
    random = draw(st.randoms(use_true_random=False))

    def one() -> Config:
        steps = random.randint(10, 25)
        settings = {key: _moved(value, random) for key, value in config.optimizer.settings.items()}
        weight = None if config.initial_weight is None else [random.uniform(-2, 2) for _ in range(dimension(config))]
        return replace(
            config,
            lr=10 ** random.uniform(-4, 0),
            steps=steps,
            seed=random.randint(0, 5),
            optimizer=replace(config.optimizer, settings=settings),
            initial_weight=weight,
        )

    return [one() for _ in range(count)]


def _moved(value: Any, random: Any) -> Any:
    """Return a hyper-parameter a little below what it was; flags, names, counts and zeros stay."""
    if isinstance(value, list):
        return [_moved(item, random) for item in value]
    if isinstance(value, int | str | None) or value == 0:
        return value
    return value * random.uniform(0.9, 1)


def dimension(config: Config) -> int:
    return member_of(config).objective.dimension


@pytest.mark.parametrize("objective", CHOSEN)
@settings(max_examples=3)
@given(data=st.data())
def test_each_objective_in_a_batch_of_any_size_equals_the_run_alone_to_the_bit(
    objective: str, data: st.DataObject
) -> None:
    found = member_of(base(objective)).objective
    left_out = {*LEAST_SQUARES} if found.residuals is None else set()
    rules = sorted({*RULES} - left_out - ({*DENSE} if found.dimension > 64 else set()))
    optimizer, schedule = data.draw(st.sampled_from(rules)), data.draw(st.sampled_from(SCHEDULES))
    extra: dict[str, Any] = data.draw(
        st.sampled_from([{}, {"gradient_noise": 0.1}, {"clip_norm": 1.0}, {"clip_value": 0.5}])
    )
    start = data.draw(st.sampled_from([None, 0.5]))
    config = replace(base(objective, optimizer, schedule), initial_weight=start, **extra)
    configs = data.draw(variants(config))
    assert_equal_to_alone(configs, [0, len(configs) // 2, len(configs) - 1])


@pytest.mark.parametrize("optimizer", RULES)
@settings(max_examples=3)
@given(data=st.data())
def test_each_optimizer_in_a_batch_of_any_size_equals_the_run_alone_to_the_bit(
    optimizer: str, data: st.DataObject
) -> None:
    others = [] if optimizer in LEAST_SQUARES else ["ackley", "styblinski_tang", "expression"]
    objective = data.draw(st.sampled_from(["rosenbrock", *others]))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    configs = data.draw(variants(replace(base(objective, optimizer), dtype=dtype, initial_weight=0.5)))
    assert_equal_to_alone(configs, [0, len(configs) // 2, len(configs) - 1])


@settings(max_examples=5)
@given(data=st.data())
def test_neither_the_order_nor_the_split_of_a_batch_changes_a_number(data: st.DataObject) -> None:
    configs = data.draw(variants(base("rosenbrock", "adam", "constant", "initial_weight=0.5")))
    order = data.draw(st.permutations(range(len(configs))))
    cut = data.draw(st.integers(1, len(configs) - 1))
    _, whole = recorded(configs)
    shuffled = [configs[index] for index in order]
    parts = recorded(shuffled[:cut])[1] + recorded(shuffled[cut:])[1]
    assert all(parts[position] == whole[index] for position, index in enumerate(order))


def test_runs_that_diverge_or_stop_leave_their_neighbours_alone() -> None:
    config = base("quadratic", "gd", "constant", "steps=60", "stop.target_loss=20.5")
    lrs = [0.01, 0.3, 50.0, 1e-9, 1.5, 0.45]
    results = assert_equal_to_alone([replace(config, lr=lr) for lr in lrs], list(range(len(lrs))))
    outcomes = {result.outcome for result in results}
    assert outcomes == {Outcome.COMPLETED, Outcome.STOPPED, Outcome.DIVERGED}


def test_a_run_that_starts_at_nan_has_diverged_at_step_0_and_its_neighbours_continue() -> None:
    config = base("expression", "gd", "constant", "objective.formula='log(x) + a*x'")
    starts = [1.0, -1.0, 2.0]
    results, histories = recorded([replace(config, initial_weight=[start], steps=5) for start in starts])
    assert [(result.outcome, result.steps) for result in results] == [
        (Outcome.COMPLETED, 5),
        (Outcome.DIVERGED, 0),
        (Outcome.COMPLETED, 5),
    ]
    assert set(histories[1]) == {"weight"}


def test_parameters_of_the_objective_may_differ_from_run_to_run() -> None:
    config = base("quadratic")
    configs = [
        replace(config, steps=7, objective=replace(config.objective, parameters={"curvature": float(c), "offset": o}))
        for c in (1, 2, 3)
        for o in (0.0, 5.0)
    ]
    results = assert_equal_to_alone(configs, list(range(6)))
    assert [round(result.objective.known.minimum or 0.0) for result in results] == [0, 5, 0, 5, 0, 5]


def test_jobs_that_cannot_share_a_batch_give_the_reason() -> None:
    alone, other = (member_of(base("rosenbrock", "torch")) for _ in range(2))
    assert alone.why_alone == "torch.optim's SGD takes one run at a time"
    together = [member_of(replace(base("rosenbrock"), lr=lr)) for lr in (0.1, 0.2)]
    assert [len(group) for group in grouped([alone, *together, other])] == [1, 2, 1]


def test_a_group_is_split_to_fit_the_memory() -> None:
    members = [member_of(replace(base("rosenbrock"), steps=steps)) for steps in range(1, 301)]
    sizes = [len(part) for part in portions(members, memory_mib=1)]
    assert sizes == [300]
    large: list[Member] = [member_of(base("rosenbrock"))] * 20000
    parts = list(portions(large, memory_mib=1))
    assert sum(map(len, parts)) == 20000
    assert all(len(part) % 64 == 0 for part in parts[:-1])
    assert max(map(len, parts)) * large[0].bytes_a_row <= 2**20


def test_the_noise_of_a_batch_fits_the_memory() -> None:
    noisy = base("rosenbrock", "gd", "constant", "objective.dimension=500", "gradient_noise=0.1")
    part, *_ = portions([member_of(noisy)] * 10000, memory_mib=64)
    noise = Noise(range(len(part)), 500, torch.float32)
    noise.take(1)
    assert noise._left.untyped_storage().nbytes() <= 64 * 2**20


def test_the_results_of_a_run_are_finite_next_to_a_diverged_one() -> None:
    results, _ = recorded([replace(base("quadratic"), lr=lr, steps=400) for lr in (0.1, 40.0)])
    assert math.isfinite(results[0].loss)
    assert results[1].outcome is Outcome.DIVERGED
