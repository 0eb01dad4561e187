"""What the runs of a sweep say: outcomes, the border of stability, suggestions, bands, and which runs are drawn."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.report.analysis import analysed, band_of
from runner.report.page import answer
from runner.report.runs import Column, Outcome
from runner.report.scale import scale_of
from runner.report.thinning import MOST_POINTS, curve_rows, drawn_rows
from tests.support.reports import descents, logspace


def test_outcomes_compare_the_end_with_the_start() -> None:
    runs = descents({"lr": [0.1, 1.0, 1.001, 3.0]}, made=60)
    assert [analysed(runs).counts[one] for one in Outcome] == [1, 1, 1, 1, 0]
    assert runs.ended(Outcome.UNCHANGED).tolist() == [False, True, False, False]
    upward = descents({"lr": [0.1, 1.1]}, made=20, is_upward=np.array([True, True]))
    assert upward.ended(Outcome.GREW).tolist() == [True, False]
    assert analysed(upward).best == 1


def test_runs_without_a_result_are_neither_best_nor_in_the_border() -> None:
    nothing = np.array([np.nan, 1.0])
    runs = descents({"lr": [0.1, 0.2]}, final=nothing)
    analysis = analysed(runs)
    assert analysis.counts[Outcome.UNKNOWN] == 1
    assert analysis.best == 1
    empty = descents({"lr": [0.1, 0.2]}, final=np.full(2, np.nan), curves=np.zeros((2, 0)), steps=np.zeros(0, np.int64))
    assert analysed(empty).picks == {}
    assert "None of the 2 runs ended with a finite loss" in answer(analysed(empty))


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 3, exclude_max=True), min_size=2, max_size=40, unique=True))
def test_the_border_lies_where_theory_says(rates: list[float]) -> None:
    rates = [rate for rate in rates if abs(rate - 1) > 1e-3]
    runs = descents({"lr": rates or [0.5]}, made=40)
    border = analysed(runs).border
    assert border is not None
    assert border.fell == max((rate for rate in rates or [0.5] if rate < 1), default=None)
    assert border.failed == min((rate for rate in rates if rate > 1), default=None)
    assert border.bound == (1.0 if border.fell is not None else None)


def test_runs_that_fall_above_the_first_failure_are_mentioned() -> None:
    runs = descents({"lr": [0.1, 0.2, 0.3, 0.4]}, diverged=np.array([False, True, False, False]))
    analysis = analysed(runs)
    assert analysis.border is not None
    assert (analysis.border.fell, analysis.border.failed, analysis.border.last) == (0.1, 0.2, 0.4)
    assert "From lr 0.2 on some runs grew or diverged, up to 0.4 others still fell." in answer(analysis)


def test_ties_are_broken_by_the_steps_to_reach_the_loss() -> None:
    runs = descents({"lr": [0.3, 0.5, 0.4, 0.75]}, made=400)
    assert runs.final.tolist() == [0, 0, 0, 0]
    analysis = analysed(runs)
    assert [runs.varied[0].texts[row] for row in runs.order] == ["0.5", "0.4", "0.3", "0.75"]
    assert analysis.suggestions[0].lr == 0.5
    assert "of the 4 runs that tie, the one that reached it in the fewest steps" in analysis.suggestions[0].rule
    assert "reached in 2 steps" in answer(analysis)


def test_suggestions_keep_their_rules() -> None:
    best, inside, smallest = analysed(descents({"lr": [0.02, 0.25, 0.3, 0.6, 1.05]}, made=6)).suggestions
    assert (best.lr, best.rule) == (0.6, "the best last loss")
    assert (inside.lr, smallest.lr) == (0.3, 0.25)
    assert "the best of those at most half of 1.05, the smallest that grew or diverged" in inside.rule
    assert "the smallest that made 99 % of the best run's progress" in smallest.rule


def test_seeds_are_taken_together() -> None:
    rates, seeds = [0.1, 0.3, 0.1, 0.3, 0.1, 0.3], [0, 0, 1, 1, 2, 2]
    runs = descents({"lr": rates, "seed": seeds}, made=20)
    # One lucky seed does not make a setting the best.
    final = np.array([0.0, 2.0, 9.0, 2.0, 9.0, 2.0])
    analysis = analysed(descents({"lr": rates, "seed": seeds}, made=20, final=final, best=final))
    assert [rows.tolist() for rows in analysis.combinations] == [[1, 3, 5], [0, 2, 4]]
    assert [(one.lr, one.rule) for one in analysis.suggestions] == [
        (0.3, "the best median of the last loss over 3 seeds")
    ]
    assert "Best over 3 seeds: <b>lr 0.3</b>" in answer(analysis)
    band = band_of(runs, analysed(runs).combinations)
    assert band is not None
    assert band.of == "3 seeds of the best setting"


def test_the_band_keeps_the_last_loss_of_runs_that_stopped() -> None:
    runs = descents({"lr": [0.1, 0.2, 0.3]}, made=10)
    curves = runs.curves.copy()
    curves[1, 4:] = np.nan
    band = band_of(descents({"lr": [0.1, 0.2, 0.3]}, made=10, curves=curves))
    assert band is not None
    assert np.isfinite(band.middle).all()
    assert band.high[9] <= curves[:, 0].max()


def test_a_known_minimum_is_found_from_the_losses() -> None:
    assert descents({"lr": [0.1, 0.3]}, offset=20.0).minimum == pytest.approx(20.0, rel=1e-6)
    assert descents({"lr": [0.1, 0.3]}, offset=None).minimum is None
    differing = descents({"lr": [0.1, 0.3]}, loss_error=np.array([1.0, 2.0]))
    assert differing.minimum is None


@settings(max_examples=30)
@given(st.lists(st.one_of(st.floats(), st.just(0.0)), min_size=1, max_size=50))
@example([1.0, 1e307])
@example([-1.7e308, 1.7e308])
def test_every_value_has_its_place_on_the_axis(values: list[float]) -> None:
    scale = scale_of(np.array(values))
    placed = scale.placed(np.array(values))
    assert np.isfinite(placed).all()
    low = scale.low if scale.floor is None else scale.floor
    assert ((placed >= low) & (placed <= scale.strip)).all()
    if scale.is_log:
        assert (placed > 0).all()


def test_zeros_lie_on_a_floor_and_what_exploded_in_the_strip() -> None:
    scale = scale_of(np.array([0.0, 1e-8, 1.0, math.inf]))
    placed = scale.placed(np.array([0.0, 1e-8, 1.0, math.inf, math.nan]))
    assert placed[0] == scale.floor
    assert placed[0] < 1e-8
    assert placed[1:3].tolist() == [1e-8, 1.0]
    assert (placed[3:] == scale.strip).all()
    capped = scale_of(np.array([1.0, 100.0, 1e30]), most=1e6)
    assert capped.high == 100
    negative = scale_of(np.array([-1.0, -2.0, 0.5, 1e30] + [0.0] * 30))
    assert not negative.is_log
    assert negative.high < 10


def test_a_number_is_a_number_and_a_name_a_name() -> None:
    mixed = Column.of("optimizer", ["gd", "adam", None])
    assert (mixed.numbers, mixed.choices, mixed.codes.tolist()) == (None, ["gd", "adam", ""], [0, 1, 2])
    flags = Column.of("nesterov", [True, False])
    assert flags.numbers is None
    rates = Column.of("lr", [0.1, 1e-5, 0.1])
    assert rates.is_log
    assert rates.codes.tolist() == [1, 0, 1]


def test_thinning_keeps_the_extremes_and_says_how_many() -> None:
    runs = descents({"lr": logspace(1e-4, 3, 10_000)}, made=5)
    rows = drawn_rows(runs)
    assert len(rows) <= MOST_POINTS
    assert len(set(rows.tolist())) == len(rows)
    assert {*runs.order[:50], *runs.order[-50:], 0, 9999} <= {*rows.tolist()}
    gaps = np.diff(rows)
    assert gaps.max() <= 30  # no region is left out
    some = curve_rows(runs, rows, 160)
    assert len(some) <= 100_000 // 160
    assert set(some.tolist()) <= set(rows.tolist())
