"""Learning-rate schedules: torch's rates over whole runs, rows computed alone, and invalid arguments."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pytorch_optimizer.lr_scheduler import get_wsd_schedule
from torch import Tensor
from torch.optim import SGD, lr_scheduler

from runner.config.groups import ScheduleConfig
from runner.config.schedule_ranges import ARGUMENTS, resolved, schedule_problems
from runner.messages.errors import UserError
from runner.schedules import SCHEDULES, ClosedForm, LossDriven, schedule_of, schedule_parameters
from runner.tensors.rows import column
from tests.support.descents import done

CONF = Path(__file__).parents[2] / "conf" / "schedule"
CPU = torch.device("cpu")
STEPS = 1000
LR = 0.01
ROWS = 64

Settings = dict[str, Any]

TWINS: dict[str, Callable[..., Any]] = {
    "constant": lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=1.0),
    "step": lr_scheduler.StepLR,
    "multistep": lr_scheduler.MultiStepLR,
    "exponential": lr_scheduler.ExponentialLR,
    "polynomial": lr_scheduler.PolynomialLR,
    "cosine": lr_scheduler.CosineAnnealingLR,
    "warm_restarts": lr_scheduler.CosineAnnealingWarmRestarts,
    "one_cycle": lambda optimizer, **given: lr_scheduler.OneCycleLR(optimizer, cycle_momentum=False, **given),
    "wsd": lambda optimizer, **given: get_wsd_schedule(optimizer, num_warmup_steps=0, **given),
    "plateau": lr_scheduler.ReduceLROnPlateau,
}
CLOSED = [name for name, schedule in SCHEDULES.items() if isinstance(schedule, ClosedForm)]
FACTORS = st.floats(0.05, 1.0)
RATES = st.floats(1e-4, 10.0)
LENGTHS = st.integers(3, 150)


def drawn(name: str, draw: st.DrawFn, left: int, lr: float) -> Settings:
    """Draw arguments of a schedule that fit a run with so many steps after warm-up."""
    length = st.integers(left, 2 * left)
    gamma = st.floats(0.9, 1.02)
    eta_min = st.floats(0.0, 0.99).map(lambda part: part * lr)
    arguments: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "constant": {},
        "step": {"step_size": st.integers(1, left - 1), "gamma": gamma},
        "multistep": {
            "milestones": st.sets(st.integers(1, left - 1), min_size=1, max_size=5).map(sorted),
            "gamma": FACTORS,
        },
        "exponential": {"gamma": gamma},
        "polynomial": {"total_iters": st.integers(left - 1, 2 * left), "power": st.floats(0.2, 4.0)},
        "cosine": {"T_max": length, "eta_min": eta_min},
        "warm_restarts": {"T_0": st.integers(1, left), "T_mult": st.integers(1, 4), "eta_min": eta_min},
        "one_cycle": {
            "max_lr": RATES,
            "total_steps": length,
            "pct_start": st.floats(0.0, 1.0),
            "anneal_strategy": st.sampled_from(["cos", "linear"]),
            "div_factor": st.floats(1.0, 100.0),
            "final_div_factor": st.floats(1.0, 1e5),
            "three_phase": st.booleans(),
        },
        "wsd": {
            "num_stable_steps": st.integers(0, left - 1),
            "num_decay_steps": length,
            "min_lr_ratio": st.floats(0.0, 1.0),
            "num_cycles": st.floats(0.1, 2.0),
            "cooldown_type": st.sampled_from(["1-sqrt", "cosine", "linear", "1-square"]),
        },
        "plateau": {
            "mode": st.sampled_from(["min", "max"]),
            "factor": st.floats(0.1, 0.9),
            "patience": st.integers(0, 5),
            "threshold": st.floats(0.0, 0.3),
            "threshold_mode": st.sampled_from(["rel", "abs"]),
            "cooldown": st.integers(0, 5),
            "min_lr": st.floats(0.0, 0.05).map(lambda part: part * lr),
            "eps": st.floats(0.0, 1e-6),
        },
    }
    return draw(st.fixed_dictionaries(arguments[name]))


@st.composite
def runs_of(draw: st.DrawFn, name: str, lengths: st.SearchStrategy[int] = LENGTHS) -> tuple[Settings, float, int]:
    """Draw settings of a schedule with the learning rate and the number of steps of a run that they fit."""
    steps, lr = draw(lengths), draw(RATES)
    warmup = draw(st.sampled_from([steps_before for steps_before in (0, 1, 2, 17) if steps_before + 3 <= steps]))
    own = drawn(name, draw, steps - warmup, lr)
    chosen = {"name": name} | own | {"warmup_steps": warmup, "warmup_start_factor": draw(FACTORS)}
    assume(not list(schedule_problems(chosen, lr, steps)))
    return chosen, lr, steps


def split(chosen: Settings) -> tuple[Settings, int, float]:
    """Return a schedule's own arguments, and its warm-up."""
    own = {key: value for key, value in chosen.items() if key != "name" and not key.startswith("warmup")}
    return own, chosen["warmup_steps"], chosen["warmup_start_factor"]


def twin_rates(chosen: Settings, lr: float, steps: int) -> Iterator[float]:
    """Yield the rates that torch's schedulers set, step by step."""
    own, warmup, start_factor = split(chosen)
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    linear = lr_scheduler.LinearLR(optimizer, start_factor, total_iters=warmup) if warmup else None
    scheduler = TWINS[chosen["name"]](optimizer, **own)
    if linear is not None:
        scheduler = lr_scheduler.SequentialLR(optimizer, [linear, scheduler], [warmup])
    for step in range(1, steps + 1):
        yield optimizer.param_groups[0]["lr"]
        if step < steps:
            optimizer.step()
            scheduler.step()


def declared(name: str) -> Settings:
    """Return the settings of a schedule's YAML file."""
    loaded: Settings = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    return loaded


def closed_form(name: str) -> ClosedForm:
    schedule = SCHEDULES[name]
    assert isinstance(schedule, ClosedForm)
    return schedule


def rates_of(chosen: Settings, lr: float, steps: int, rows: int = 1) -> Tensor:
    """Return the rates of a whole run, computed at once, `(steps, rows)`."""
    hyper = schedule_parameters([ScheduleConfig.from_tree(chosen)], [lr], [steps], rows, CPU)
    return closed_form(chosen["name"]).block(1, steps, column([lr], rows, CPU), **hyper)[:, :, 0]


@pytest.mark.parametrize("name", CLOSED)
@given(data=st.data())
@settings(max_examples=40)
def test_rates_are_torchs_over_the_whole_run(name: str, data: st.DataObject) -> None:
    chosen, lr, steps = data.draw(runs_of(name))
    expected = torch.tensor(list(twin_rates(chosen, lr, steps)), dtype=torch.float64)
    # Near the end of a cosine, 1 + cos cancels: what is left is exact to the last digits of the largest rate only.
    last_digits = 4 * torch.finfo(torch.float64).eps * float(expected.max())
    torch.testing.assert_close(rates_of(chosen, lr, steps)[:, 0], expected, rtol=1e-12, atol=last_digits)


def plateau_twin(chosen: Settings, lr: float, losses: list[float]) -> Iterator[float]:
    """Yield torch's rates: a rise in a line, then ReduceLROnPlateau, which has seen nothing of the rise."""
    own, warmup, start = split(chosen)
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **own)
    for epoch, loss in enumerate(losses):
        if epoch < warmup:
            yield lr * (start + (1 - start) * epoch / warmup)
        else:
            yield optimizer.param_groups[0]["lr"]
            scheduler.step(loss)


def driven_rates(chosen: Settings, lr: float, losses: Tensor) -> Tensor:
    """Return the rates `(steps, rows)` that a schedule sets after losses `(steps, rows)`."""
    steps, rows = losses.shape
    hyper = schedule_parameters([ScheduleConfig.from_tree(chosen)], [lr], [steps], rows, CPU)
    return one_by_one(chosen["name"], column([lr], rows, CPU), hyper, losses)


def one_by_one(name: str, base: Tensor, hyper: dict[str, Any], losses: Tensor) -> Tensor:
    """Return the rates `(steps, rows)` of a schedule, each computed on its own."""
    schedule, steps = SCHEDULES[name], range(1, len(losses) + 1)
    if isinstance(schedule, ClosedForm):
        return torch.stack([schedule.rates(step, base, **hyper)[:, 0] for step in steps])
    state, rates = schedule.init(base, **hyper), []
    for step, loss in zip(steps, losses, strict=True):
        number = torch.full((1, 1), float(step), dtype=torch.float64)
        rates.append(schedule.rate(number, state, **hyper)[:, 0])
        state = schedule.after(number, loss[:, None], state, **hyper)
    return torch.stack(rates)


LOSSES = st.one_of(st.floats(-5.0, 5.0, width=32), st.sampled_from([-1.0, 0.0, 1.0, float("nan"), float("inf")]))


@given(run=runs_of("plateau"), data=st.data())
@settings(max_examples=150)
def test_plateau_is_torchs_on_any_losses(run: tuple[Settings, float, int], data: st.DataObject) -> None:
    chosen, lr, steps = run
    losses = data.draw(st.lists(LOSSES, min_size=min(steps, 60), max_size=min(steps, 60)))
    rates = driven_rates(chosen, lr, torch.tensor(losses, dtype=torch.float32)[:, None])
    expected = torch.tensor(list(plateau_twin(chosen, lr, losses)), dtype=torch.float64)
    torch.testing.assert_close(rates[:, 0], expected, rtol=1e-12, atol=0.0)


def test_plateau_never_cuts_on_a_flat_negative_loss_as_in_torch() -> None:
    flat = torch.full((100, 1), -1.0)
    assert bool((driven_rates(declared("plateau"), LR, flat) == LR).all())
    assert driven_rates(declared("plateau") | {"threshold_mode": "abs"}, LR, flat)[-1].item() < LR


@pytest.mark.parametrize("name", CLOSED)
@given(data=st.data())
@settings(max_examples=15)
def test_a_block_of_rates_equals_the_rates_one_by_one(name: str, data: st.DataObject) -> None:
    chosen, lr, steps = data.draw(runs_of(name))
    at_once = rates_of(chosen, lr, steps, rows=ROWS)
    assert torch.equal(at_once, driven_rates(chosen, lr, torch.ones(steps, ROWS)))


@pytest.mark.parametrize("name", SCHEDULES)
@given(data=st.data())
@settings(max_examples=15)
def test_a_row_of_a_batch_equals_the_run_alone(name: str, data: st.DataObject) -> None:
    chosen, lr, steps = data.draw(runs_of(name))
    own, *_ = split(chosen)
    words = {key: value for key, value in own.items() if isinstance(value, str | bool)}
    other, other_lr, _ = data.draw(runs_of(name, st.just(steps)))
    if name == "multistep":
        pairs = zip(chosen["milestones"], other["milestones"], strict=False)
        chosen["milestones"], other["milestones"] = map(list, zip(*pairs, strict=True))
    runs = [(chosen, lr), (other | words, other_lr)]
    losses = torch.rand(steps, ROWS, generator=torch.Generator().manual_seed(steps))
    alone = [driven_rates(settings, rate, losses) for settings, rate in runs]
    mixed = mixed_rates(runs, steps, losses)
    assert torch.equal(mixed[:, 0], alone[0][:, 0])
    assert torch.equal(mixed[:, 1], alone[1][:, 1])


def mixed_rates(runs: list[tuple[Settings, float]], steps: int, losses: Tensor) -> Tensor:
    """Return the rates `(steps, ROWS)` of a batch whose first row is the first run and whose others are the second."""
    hypers = [schedule_parameters([ScheduleConfig.from_tree(chosen)], [lr], [steps], ROWS, CPU) for chosen, lr in runs]
    is_first = (torch.arange(ROWS) == 0)[:, None]

    def mix(first: Any, second: Any) -> Any:
        if isinstance(first, tuple):
            return tuple(map(mix, first, second))
        return torch.where(is_first, first, second) if isinstance(first, Tensor) else first

    hyper = {key: mix(value, hypers[1][key]) for key, value in hypers[0].items()}
    first_lr, other_lr = (column([rate], ROWS, CPU) for _, rate in runs)
    lr = torch.where(is_first, first_lr, other_lr)
    return one_by_one(runs[0][0]["name"], lr, hyper, losses)


@example(T_0=1, T_mult=3, epoch=3**12 // 2)
@example(T_0=7, T_mult=10, epoch=7 * 111111)
@given(T_0=st.integers(1, 50), T_mult=st.integers(1, 10), epoch=st.integers(0, 10**9))
@settings(max_examples=300)
def test_restarts_fall_on_the_exact_step(T_0: int, T_mult: int, epoch: int) -> None:  # noqa: N803  # torch's names
    length, since = T_0, epoch % T_0 if T_mult == 1 else epoch
    while since >= length:
        since, length = since - length, length * T_mult
    settings = declared("warm_restarts") | {"T_0": T_0, "T_mult": T_mult}
    hyper = schedule_parameters([ScheduleConfig.from_tree(settings)], [LR], [epoch + 1], 1, CPU)
    rate = closed_form("warm_restarts").rates(epoch + 1, column([LR], 1, CPU), **hyper)
    expected = LR * (1 + torch.cos(torch.tensor(torch.pi * since / length, dtype=torch.float64))) / 2
    torch.testing.assert_close(rate.squeeze(), expected, rtol=1e-12, atol=1e-17)


def test_every_schedule_has_a_form_a_file_ranges_and_a_twin() -> None:
    files = {path.stem for path in CONF.glob("*.yaml")}
    assert set(SCHEDULES) == files == set(ARGUMENTS) == set(TWINS)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_file_of_a_schedule_fits_the_usual_run(name: str) -> None:
    chosen = declared(name)
    assert chosen["name"] == name
    assert list(schedule_problems(chosen, LR, STEPS)) == []
    assert schedule_of(ScheduleConfig.from_tree(chosen)) is SCHEDULES[name]
    rates = driven_rates(chosen, LR, torch.ones(STEPS, 1))
    assert bool((rates >= 0).all() & rates.isfinite().all())
    assert bool((rates != rates[0]).any()) == (name != "constant")


def test_null_means_the_steps_after_warmup_and_the_runs_rate() -> None:
    chosen = declared("one_cycle") | {"warmup_steps": 10}
    assert resolved(chosen, 0.5, 100)["total_steps"] == 90
    assert resolved(chosen, 0.5, 100)["max_lr"] == 0.5
    assert resolved(declared("cosine"), 0.5, 100)["T_max"] == 100
    assert resolved(declared("polynomial"), 0.5, 100)["total_iters"] == 100


@pytest.mark.parametrize(
    ("stable", "decay", "expected"),
    [(None, None, (72, 18)), (60, None, (60, 30)), (None, 40, (50, 40)), (10, 20, (10, 20))],
)
def test_a_phase_of_wsd_that_is_not_given_is_what_the_other_leaves(
    stable: int | None, decay: int | None, expected: tuple[int, int]
) -> None:
    chosen = declared("wsd") | {"warmup_steps": 10, "num_stable_steps": stable, "num_decay_steps": decay}
    found = resolved(chosen, 0.5, 100)
    assert (found["num_stable_steps"], found["num_decay_steps"]) == expected


@pytest.mark.parametrize("shape", ["1-sqrt", "cosine", "linear", "1-square"])
def test_wsd_after_its_least_rate_keeps_it_as_the_twin_does(shape: str) -> None:
    own = {"num_stable_steps": 5, "num_decay_steps": 4, "min_lr_ratio": 0.1, "cooldown_type": shape}
    chosen = declared("wsd") | own
    assert rates_of(chosen, LR, 15)[:, 0].tolist() == pytest.approx(list(twin_rates(chosen, LR, 15)), rel=1e-12)


def test_polynomial_may_end_at_zero() -> None:
    chosen = declared("polynomial") | {"total_iters": 99}
    assert list(schedule_problems(chosen, LR, 100)) == []
    assert rates_of(chosen, LR, 100)[-1].item() == 0.0


def test_the_longest_patience_ends_at_the_last_step() -> None:
    chosen = declared("plateau") | {"patience": 97}
    assert list(schedule_problems(chosen, LR, 100)) == []
    asked = ["objective=expression", "objective.formula='3 + 0*x'", "schedule=plateau", "schedule.patience=97"]
    _, tracker = done(*asked, "steps=100", "lr=0.01")
    assert [tracker.history("lr")[step] for step in (1, 99, 100)] == pytest.approx([0.01, 0.01, 0.001])


MISFITS = [
    ("cosine", {"T_max": 50}, "schedule.T_max=50: expected at least the run's 100 steps, beyond T_max the rate rises"),
    ("cosine", {"T_max": 89, "warmup_steps": 10}, "schedule.T_max=89: expected at least the 90 steps after warm-up"),
    ("cosine", {"eta_min": 0.01}, "schedule.eta_min=0.01: expected a number below lr=0.01"),
    ("warm_restarts", {"T_0": 0}, "schedule.T_0=0: expected a whole number of at least 1"),
    ("warm_restarts", {"T_mult": 1.5}, "schedule.T_mult=1.5: expected a whole number of at least 1"),
    ("warm_restarts", {"eta_min": 1.0}, "schedule.eta_min=1.0: expected a number below lr=0.01"),
    ("step", {"step_size": 0}, "schedule.step_size=0: expected a whole number of at least 1"),
    ("step", {"step_size": 100}, "schedule.step_size=100: expected fewer than the run's 100 steps"),
    ("step", {"step_size": 5, "gamma": 0.0}, "schedule.gamma=0.0: expected a finite number above 0"),
    ("multistep", {"milestones": [30, 20]}, "schedule.milestones=[30,20]: expected a list of rising whole numbers"),
    ("multistep", {"milestones": [20, 20]}, "schedule.milestones=[20,20]: expected a list of rising"),
    ("multistep", {"milestones": [0, 20]}, "schedule.milestones=[0,20]: expected a list of rising"),
    ("multistep", {"milestones": []}, "schedule.milestones=[]: expected a list of rising"),
    ("multistep", {"milestones": [20, 100]}, "schedule.milestones=[20,100]: expected all below the run's 100 steps"),
    ("exponential", {"gamma": -1.0}, "schedule.gamma=-1.0: expected a finite number above 0"),
    ("polynomial", {"total_iters": 98}, "schedule.total_iters=98: expected at least 99 for the run's 100 steps"),
    ("polynomial", {"power": 0}, "schedule.power=0: expected a finite number above 0"),
    ("one_cycle", {"total_steps": 99}, "schedule.total_steps=99: expected at least the run's 100 steps"),
    ("one_cycle", {"pct_start": 1.5}, "schedule.pct_start=1.5: expected a number from 0 to 1"),
    ("one_cycle", {"pct_start": 0.01}, "schedule.pct_start=0.01: expected a number from 0 to 1 other than 1/100"),
    (
        "one_cycle",
        {"anneal_strategy": "liner"},
        "schedule.anneal_strategy=liner: expected cos or linear; did you mean 'linear'?",
    ),
    ("one_cycle", {"three_phase": 1}, "schedule.three_phase=1: expected true or false"),
    ("wsd", {"num_stable_steps": 100}, "schedule.num_stable_steps=100: expected fewer than the run's 100 steps"),
    (
        "wsd",
        {"num_stable_steps": 50, "num_decay_steps": 48},
        "schedule.num_decay_steps=48: expected at least 49 for the run's 100 steps, or the rate stays at 0",
    ),
    ("wsd", {"cooldown_type": "sqrt"}, "schedule.cooldown_type=sqrt: expected 1-sqrt, cosine, linear or 1-square"),
    ("plateau", {"factor": 1.0}, "schedule.factor=1.0: expected a number above 0 and below 1"),
    (
        "plateau",
        {"patience": 98},
        "schedule.patience=98: expected fewer than the run's 100 steps less 2, or the rate never changes",
    ),
    ("plateau", {"patience": -1}, "schedule.patience=-1: expected a whole number of at least 0"),
    ("plateau", {"threshold": 1.0}, "schedule.threshold=1.0: expected a number below 1 with threshold_mode=rel"),
    ("plateau", {"min_lr": 0.01}, "schedule.min_lr=0.01: expected a number below lr=0.01"),
    ("plateau", {"eps": 0.0095}, "schedule.eps=0.0095: expected a number below 0.009, the first cut of lr=0.01"),
    ("constant", {"warmup_steps": 100}, "schedule.warmup_steps=100: expected fewer than the run's 100 steps"),
    ("constant", {"warmup_steps": -1}, "schedule.warmup_steps=-1: expected a whole number of at least 0"),
    ("constant", {"warmup_start_factor": 0.0}, "schedule.warmup_start_factor=0.0: expected a number above 0 and at"),
    ("constant", {"gama": 1}, "schedule.gama=1: unknown key, expected one of schedule.warmup_steps"),
]


@pytest.mark.parametrize(("name", "changed", "line"), MISFITS)
def test_arguments_that_do_not_fit_the_run_are_reported_in_one_line(name: str, changed: Settings, line: str) -> None:
    small = {"milestones": [20, 50], "step_size": 10}
    loaded = declared(name)
    chosen = loaded | {key: value for key, value in small.items() if key in loaded} | changed
    (problem,) = schedule_problems(chosen, LR, 100)
    with pytest.raises(UserError, match="^" + line.replace("[", r"\[").replace("?", r"\?")):
        raise UserError(problem)


@pytest.mark.parametrize("name", SCHEDULES)
def test_missing_arguments_and_arguments_of_the_wrong_type_are_reported(name: str) -> None:
    chosen = declared(name)
    for key in set(chosen) - {"name"}:
        without = {other: value for other, value in chosen.items() if other != key}
        assert [line.split(",")[0] for line in schedule_problems(without, LR, STEPS)] == [f"schedule.{key}: missing"]
        odds: tuple[Any, ...] = ("odd", {}, float("nan"), float("inf"))
        for odd in odds:
            (line,) = schedule_problems(chosen | {key: odd}, LR, STEPS)
            assert line.startswith(f"schedule.{key}=")


def test_a_schedule_or_argument_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match=r"schedule\.name=cosin: expected one of constant, .*did you mean 'cosine'"):
        schedule_of(ScheduleConfig("cosin", {}, 0, 1.0))
    with pytest.raises(UserError, match=r"schedule\.T_min=5: unknown key, expected one of schedule\.T_max"):
        schedule_of(ScheduleConfig.from_tree(declared("cosine") | {"T_min": 5}))


def test_a_schedule_without_ranges_uses_those_of_its_arguments_names() -> None:
    new = {"name": "new", "gamma": -1.0, "shape": 3, "warmup_steps": 0, "warmup_start_factor": 1.0}
    assert list(schedule_problems(new, LR, STEPS)) == ["schedule.gamma=-1.0: expected a finite number above 0"]


def test_only_plateau_follows_the_losses() -> None:
    assert [name for name, schedule in SCHEDULES.items() if isinstance(schedule, LossDriven)] == ["plateau"]


def test_ranges_are_checked_without_torch() -> None:
    program = "import sys, runner.config.schedule_ranges, runner.config.stop_rules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
