"""Saved views of MLflow's UI, as they are built; tests/test_ui.py opens them in a browser."""

import json
from typing import Any

from runner.report.views import SweepView, address_of_view, params_varied, view_of_list, view_of_sweep


def state_of(value: str) -> Any:
    return json.loads(json.loads(value)["state"])


def test_a_sweep_is_ordered_by_rank_with_a_column_for_each_number_that_varies() -> None:
    state = state_of(view_of_sweep(SweepView("s", "abc", ["lr"], ["final/loss"], at_ms=5)))
    assert state["searchFilter"] == "tags.`mlflow.parentRunId` = 'abc'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`rank`", True)
    assert state["selectedColumns"][:3] == ["params.`lr`", "metrics.`rank`", "metrics.`final/loss`"]
    assert [chart["type"] for chart in state["compareRunCharts"]] == ["LINE", "LINE", "BAR", "SCATTER"]


def test_without_ranks_the_best_loss_comes_first_and_losses_below_zero_have_a_linear_axis() -> None:
    state = state_of(view_of_sweep(SweepView("s", "a", [], [], has_ranks=False, is_upward=True, is_positive=False)))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`final/loss`", False)
    assert [chart.get("scaleType") for chart in state["compareRunCharts"]] == ["linear", "log", None]


def test_a_view_stays_within_mlflows_limit_whatever_varies() -> None:
    keys = [f"{'k' * 240}{index}" for index in range(500)]
    value = view_of_sweep(SweepView('"' * 1000, "a" * 32, keys, ["final/loss"]))
    assert len(value) < 20_000
    assert len(view_of_list()) < 20_000
    assert state_of(value)["selectedColumns"]


def test_varied_keys_are_shown_by_their_params() -> None:
    params = ["lr", "optimizer.name", "stop.loss_change.below", "stop.loss_change.window", "objective.name"]
    found = params_varied(["optimizer", "stop.loss_change", "lr", "unknown"], params)
    assert found == ["optimizer.name", "stop.loss_change.below", "stop.loss_change.window", "lr"]


def test_an_address_opens_the_training_view() -> None:
    assert address_of_view("1", "k") == "#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=k"
    assert address_of_view("1", "k", "CHART").endswith("&compareRunsMode=CHART")
