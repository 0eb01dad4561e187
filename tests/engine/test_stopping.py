"""Stopping rules: the exact first step, however history is cut into blocks, and what the rules take."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runner.config.groups import StopConfig
from runner.config.stop_rules import StopReason, stop_problems
from runner.engine.stopping import Limits, Stops, first_stop, last_losses

CONF = Path(__file__).parents[2] / "conf" / "stop"
CPU = torch.device("cpu")

Settings = dict[str, Any]

# Few values, so that limits are met, missed and touched.
VALUES = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0, math.nan, math.inf, -math.inf])
LIMITS = st.none() | st.sampled_from([0.25, 0.5, 1.0])


def rules(**changed: Any) -> Settings:
    """Return the settings of the YAML file, changed; `below` and `window` are those of the loss change."""
    loaded: Settings = yaml.safe_load((CONF / "rules.yaml").read_text())
    change = loaded["loss_change"] | {key: changed.pop(key) for key in ("below", "window") if key in changed}
    return loaded | {"loss_change": change} | changed


RULES = st.builds(rules, gradient_norm=LIMITS, target_loss=LIMITS, below=LIMITS, window=st.integers(1, 6))


def column(*values: float) -> Tensor:
    """Return the history of one run."""
    return torch.tensor(values, dtype=torch.float64)[:, None]


def stop_of_one(loss: Tensor, gradient_norm: Tensor, chosen: Settings) -> tuple[int, StopReason | None]:
    """Return where and why a run stops whose history is one block."""
    found = first_stop(loss, gradient_norm, loss[:0], Limits.of([StopConfig.from_tree(chosen)], CPU))
    return int(found.index[0]), found.reasons[0]


def plainly(loss: list[float], norm: list[float], chosen: Settings) -> tuple[int, StopReason | None]:
    """Return the same by the definition, step by step."""
    below, window = chosen["loss_change"]["below"], chosen["loss_change"]["window"]
    for step, (value, size) in enumerate(zip(loss, norm, strict=True)):
        if chosen["gradient_norm"] is not None and size < chosen["gradient_norm"]:
            return step, StopReason.GRADIENT_NORM
        if below is not None and step >= window and abs(value - loss[step - window]) < below:
            return step, StopReason.LOSS_CHANGE
        if chosen["target_loss"] is not None and value <= chosen["target_loss"]:
            return step, StopReason.TARGET_LOSS
    return -1, None


def in_blocks(loss: Tensor, norm: Tensor, limits: Limits, cuts: list[int]) -> list[tuple[int, StopReason | None]]:
    """Return where and why each run stops when its history comes in blocks."""
    found: list[tuple[int, StopReason | None]] = [(-1, None)] * loss.shape[1]
    earlier = loss[:0]
    edges = [0, *cuts, len(loss)]
    for first, end in itertools.pairwise(edges):
        block: Stops = first_stop(loss[first:end], norm[first:end], earlier, limits)
        earlier = last_losses(earlier, loss[first:end], limits)
        assert len(earlier) <= limits.longest_window
        for run, (index, reason) in enumerate(zip(block.index.tolist(), block.reasons, strict=True)):
            if found[run][0] < 0 and index >= 0:
                found[run] = (first + index, reason)
    return found


@given(data=st.data(), steps=st.integers(1, 30), chosen=st.lists(RULES, min_size=1, max_size=4))
@settings(max_examples=200)
def test_any_cut_into_blocks_finds_the_first_step(data: st.DataObject, steps: int, chosen: list[Settings]) -> None:
    history = st.lists(VALUES, min_size=steps, max_size=steps)
    losses, norms = ([data.draw(history) for _ in chosen] for _ in range(2))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, steps - 1)), max_size=6))) if steps > 1 else []
    loss, norm = torch.tensor(losses).T, torch.tensor(norms).T
    found = in_blocks(loss, norm, Limits.of(list(map(StopConfig.from_tree, chosen)), CPU), cuts)
    assert found == [plainly(*run) for run in zip(losses, norms, chosen, strict=True)]


def test_gradient_norm_stops_below_its_limit_not_at_it() -> None:
    norm = column(1.0, 0.5, 0.25)
    assert stop_of_one(column(3.0, 3.0, 3.0), norm, rules(gradient_norm=0.5)) == (2, StopReason.GRADIENT_NORM)


def test_target_loss_stops_at_the_target() -> None:
    loss = column(3.0, 2.0, 1.0)
    assert stop_of_one(loss, column(1.0, 1.0, 1.0), rules(target_loss=2.0)) == (1, StopReason.TARGET_LOSS)


def test_loss_change_waits_for_a_full_window() -> None:
    loss = column(1.0, 1.0, 1.0, 1.0)
    assert stop_of_one(loss, loss, rules(below=0.1, window=3)) == (3, StopReason.LOSS_CHANGE)


def test_no_rule_never_stops() -> None:
    limits = Limits.of([StopConfig.from_tree(rules())], CPU)
    assert not limits.has_rules
    assert limits.longest_window == 0
    assert stop_of_one(column(0.0, 0.0), column(0.0, 0.0), rules()) == (-1, None)


def test_float32_history_is_compared_with_the_limit_as_typed() -> None:
    loss = torch.tensor([[0.1]], dtype=torch.float32)
    assert stop_of_one(loss, loss, rules(target_loss=0.1)) == (-1, None)  # 0.1 in float32 lies above 0.1


@pytest.mark.parametrize("reason", StopReason)
def test_every_stop_reason_names_its_limit(reason: StopReason) -> None:
    chosen = StopConfig.from_tree(rules(gradient_norm=1e-06, below=1e-06, window=7, target_loss=1e-06, seconds=1e-06))
    assert "1e-06" in reason.sentence(chosen)
    assert "{" not in reason.sentence(chosen)


def test_reasons_read_as_sentences() -> None:
    chosen = StopConfig.from_tree(rules(gradient_norm=1e-06, below=0.001, window=50))
    assert StopReason.GRADIENT_NORM.sentence(chosen) == "gradient norm fell below 1e-06"
    assert StopReason.LOSS_CHANGE.sentence(chosen) == "loss changed by less than 0.001 in 50 steps"


def test_the_file_sets_no_rule_and_is_valid() -> None:
    assert list(stop_problems(rules(), steps=1)) == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"gradient_norm": 0}, "stop.gradient_norm=0: expected a finite number above 0, or null for no such rule"),
        ({"below": -1.0}, "stop.loss_change.below=-1.0: expected a finite number above 0, or null for no such rule"),
        ({"window": 0}, "stop.loss_change.window=0: expected a whole number of at least 1"),
        ({"below": 0.1, "window": 50}, "stop.loss_change.window=50: expected fewer than the run's 50 steps"),
        ({"target_loss": math.nan}, "stop.target_loss=nan: expected a finite number, or null for no such rule"),
        ({"seconds": True}, "stop.seconds=true: expected a finite number above 0, or null for no such rule"),
        ({"loss_change": 0.1}, "stop.loss_change=0.1: expected keys below, window"),
    ],
)
def test_a_value_out_of_range_is_reported_in_one_line(changed: Settings, line: str) -> None:
    assert list(stop_problems(rules(**changed), steps=50)) == [line]


def test_unknown_and_missing_keys_are_reported() -> None:
    chosen = rules(second=3)
    del chosen["seconds"]
    unknown, missing = stop_problems(chosen)
    assert unknown.startswith("stop.second=3: unknown key, expected one of stop.gradient_norm")
    assert unknown.endswith("did you mean 'stop.seconds'?")
    assert missing.startswith("stop.seconds: missing, expected a finite number above 0")
