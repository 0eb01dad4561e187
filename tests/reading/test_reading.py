"""Runs are read back alike from every kind of store."""

import math
from typing import Any

import numpy as np
import pytest

from runner import runs
from runner.messages.errors import UserError
from runner.reading import reader
from tests.reading.conftest import LONG, Place

pytestmark = pytest.mark.xdist_group("server")  # they share it with those of the recorder


def names(found: Any) -> list[str]:
    return [run.name for run in found]


def test_a_sweep_stands_for_its_jobs_without_those_in_the_trash(place: Place) -> None:
    sweep = place.read("sweep")
    assert names(sweep) == ["a", "b", "c", "m"]
    assert names(sweep.sweeps) == ["sweep"]
    assert sweep.varied == ["lr", "optimizer"]
    assert [run.outcome for run in sweep] == ["COMPLETED", "STOPPED", "DIVERGED", "COMPLETED"]
    assert names(place.read("a", "outer", "sweep")) == ["a", "<b>inner</b>", "b", "c", "m"]
    assert (names(sweep[1:3]), sweep[-1].name) == (["b", "c"], "m")


def test_runs_are_found_by_experiment_and_filter(place: Place) -> None:
    everything = place.read(experiment="reading")
    assert sorted(names(everything)) == ["<b>inner</b>", "a", "b", "by hand", "c", "going", "long", "m", "outer"]
    assert names(place.read(experiment="reading", filter="metrics.loss = 1")) == ["a", "b"]
    assert names(place.read("sweep", filter="params.lr = '0.2'")) == ["b"]
    with pytest.raises(UserError, match="no such experiment; did you mean 'reading'"):
        place.read(experiment="readin")
    with pytest.raises(UserError, match="Invalid clause"):
        place.read(filter="lr is small")
    with pytest.raises(UserError, match="is in MLflow's trash"):
        place.read("d")
    with pytest.raises(UserError, match=r"ffffff: no such run"):
        runs("ffffff", uri=place.uri)


def test_final_and_best_results_have_their_infinities_back(place: Place) -> None:
    a, _, c, _ = place.read("sweep")
    assert a.final == {"loss": 1.0, "distance": 0.5}
    assert a.best == {"loss": 1.0, "step": 3.0}
    assert c.final["loss"] == math.inf
    assert math.isnan(c.final["distance"])
    assert a.params["initial_weight"] == [1.0, 2.0]
    assert a.sweep == place.ids["sweep"]


def test_histories_hold_every_recorded_value(place: Place) -> None:
    table = place.read("sweep").histories(["loss", "weight"])
    loss = table[table.key == "loss"]
    assert table.columns.tolist() == ["run_id", "key", "step", "value"]
    assert loss.step.tolist() == [1, 2, 3] * 4
    assert loss.value.tolist() == [7, 3, 1, 7, 1, 1, 7, -math.inf, math.inf, 7, 5, 4]
    weight = table[(table.key == "weight") & (table.run_id == place.ids["c"])]
    assert weight.step.tolist() == [0, 1, 2, 3]
    assert weight.value.tolist()[:2] == [10, 1]
    assert weight.value.isna().tolist() == [False, False, True, True]
    assert set(place.read("sweep").histories().key) == {"loss", "weight"}


def test_a_long_history_is_read_whole(place: Place) -> None:
    steps, losses = place.read("long", "going").curves("loss")
    assert steps.tolist() == [*range(LONG)]
    assert losses.shape == (2, LONG)
    assert losses[0].tolist() == [*range(LONG)]
    assert losses[1, 1] == 2.5
    assert np.isnan(losses[1, [0, 2, -1]]).all()


@pytest.mark.parametrize("most", [3, 5, 13])
def test_what_a_server_cuts_off_is_asked_for_again(
    most: int, on_a_server: Place, in_sqlite: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MOST_VALUES", most)
    tables = [place.read("sweep").histories() for place in (on_a_server, in_sqlite)]
    for column in ("key", "step", "value"):
        assert repr(tables[0][column].tolist()) == repr(tables[1][column].tolist())


def test_curves_have_a_row_for_each_run(place: Place) -> None:
    steps, weights = place.read("sweep").curves("weight")
    assert steps.tolist() == [0, 1, 2, 3]
    assert weights[:, 0].tolist() == [10] * 4
    assert np.isnan(weights[0, 1:]).all()
    with pytest.raises(UserError, match="wieght: no run has recorded this metric; did you mean 'weight'"):
        place.read("sweep").curves("wieght")


def test_a_trajectory_has_a_row_for_each_step(place: Place) -> None:
    trajectory = place.read("c")[0].trajectory()
    assert trajectory.index.tolist() == [0, 1, 2, 3]
    assert trajectory.loss.tolist()[1:] == [7, -math.inf, math.inf]
    assert set(trajectory.columns) == {"loss", "weight"}


def test_the_frame_has_a_row_for_each_run_with_typed_params(place: Place) -> None:
    frame = place.read("sweep").frame()
    assert frame.run_id.tolist() == [place.ids[name] for name in "abcm"]
    assert frame.lr.tolist() == [0.1, 0.2, 9.0, 0.1]
    assert frame.optimizer.tolist() == ["gd", "gd", "gd", "momentum"]
    assert frame.quiet.tolist() == [True] * 4
    assert frame["optimizer.maximize"].tolist() == [None] * 4
    assert frame["final/loss"].tolist() == [1, 1, math.inf, 4]
    assert frame.ended.dt.year.tolist() == [1970] * 4
    assert frame.columns.tolist()[:5] == ["run_id", "name", "lr", "optimizer", "outcome"]


def test_the_best_come_first_and_ties_are_broken_by_the_steps_to_reach_them(place: Place) -> None:
    assert names(place.read("sweep").best(10)) == ["b", "a", "m"]
    assert names(place.read(experiment="reading").best()) == ["long"]


def test_runs_are_chosen_by_their_values(place: Place) -> None:
    sweep = place.read("sweep")
    assert names(sweep.where(lr=0.1)) == ["a", "m"]
    assert names(sweep.where(lr=(0.1, 9), optimizer="gd")) == ["a", "c"]
    assert names(sweep.where({"final/loss": lambda loss: loss < 2, "optimizer.name": "gd"})) == ["a", "b"]
    assert names(sweep.where(outcome="DIVERGED", quiet=True)) == ["c"]
    assert names(sweep.where(quiet=1)) == []
    assert names(sweep.where({"optimizer.momentum": 0.9})) == ["m"]
    with pytest.raises(UserError, match="optimiser: no run has it; did you mean 'optimizer'"):
        sweep.where(optimiser="gd")


def test_runs_of_other_programs_are_read_too(place: Place) -> None:
    (run,) = place.read("by hand")
    assert (run.outcome, run.best) == ("FINISHED", {})
    assert run.final == {"acc": 0.25, "lr": 0.125} or run.final == {"acc": 0.5, "lr": 0.125}  # as MLflow has it
    assert run.params == {"lr": "auto", "shuffle": True}
    assert sorted(run.trajectory().index) == [0, 2**55]
    both = place.read("by hand", "outer")
    assert sorted(both.histories("acc").value) == [0.25, 0.5]
    assert both.frame()[["lr", "metrics.lr"]].iloc[0].tolist() == ["auto", 0.125]
    with pytest.raises(UserError, match="its config is not recorded"):
        _ = run.config


def test_a_run_that_is_going_has_no_results_yet(place: Place) -> None:
    going, outer = place.read("going")[0], place.read("outer")[0]
    assert (going.outcome, going.final, going.metrics["loss"], going.ended) == ("RUNNING", {}, 2.5, None)
    assert going.trajectory().loss.tolist() == [2.5]
    assert len(outer.trajectory()) == 0
    assert len(place.read("outer").histories()) == 0
    assert len(place.read("going", "outer").frame()) == 2


def test_notebooks_and_consoles_show_runs_with_all_texts_escaped(in_sqlite: Place) -> None:
    sweep, inner = in_sqlite.read("sweep"), in_sqlite.read("outer")[0]
    assert repr(sweep) == "Runs(4 runs, varied: lr, optimizer, 2 COMPLETED, 1 STOPPED, 1 DIVERGED)"
    assert repr(sweep[0]).endswith(", 'a', COMPLETED, loss=1)")
    shown = sweep._repr_html_()
    assert shown.index(">0.2<") < shown.index(">momentum<")
    assert "3 of 4, the best first" in shown
    assert "&lt;b&gt;inner" in inner._repr_html_()
    assert "<b>" not in inner._repr_html_() + in_sqlite.read("outer")._repr_html_()
    empty = sweep.where(outcome="KILLED")
    assert (repr(empty), "0 runs: none" in empty._repr_html_()) == ("Runs(0 runs)", True)
    assert len(empty.frame()) == len(empty.histories()) == len(empty.curves()[1]) == len(empty.best()) == 0
