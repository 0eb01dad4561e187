"""Labels and tables: enough digits to distinguish numbers, one name for each quantity, one order."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runner
from runner.sweeps.labels import digits_apart, short
from tests.support.compositions import jobs_of


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["lr=0.250841505927754", "lr=0.2531648478631355"], ["lr=0.2508", "lr=0.2532"]),
        (["lr=0.25", "lr=0.2500001", "lr=0.3"], ["lr=0.25", "lr=0.2500001", "lr=0.3"]),
        (["lr=0.123456789", "lr=0.123456788", "lr=0.5123456"], ["lr=0.123456789", "lr=0.123456788", "lr=0.5123"]),
        (["lr=0.0001", "lr=1e-05", "lr=1.0", "lr=0.012345"], ["lr=0.0001", "lr=1e-05", "lr=1.0", "lr=0.012345"]),
        (["lr=123456.789", "lr=1.2345678e-07"], ["lr=123457", "lr=1.235e-07"]),
        (["seed=12345678901", "seed=12345678902"], ["seed=12345678901", "seed=12345678902"]),
        (["initial_weight=[0.123456789,-2.5]", "initial_weight=[1.0,2.0]"],
         ["initial_weight=[0.1235,-2.5]", "initial_weight=[1.0,2.0]"]),
        (["name='0.123456789'", "name=run_0.123456789"], ["name='0.123456789'", "name=run_0.123456789"]),
    ],
)  # fmt: skip
def test_labels_have_few_digits_unless_two_numbers_would_look_equal(texts: list[str], labels: list[str]) -> None:
    found = short(texts)
    assert [found[text] for text in texts] == labels


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False).map(lambda number: f"lr={number!r}"), unique=True))
def test_different_texts_have_different_labels(texts: list[str]) -> None:
    found = short(texts)
    assert list(found) == texts or set(found) == set(texts)
    assert len(set(found.values())) == len(texts)


@given(st.lists(st.floats(0.1, 100), max_size=8))
def test_a_column_has_enough_digits_to_distinguish_its_numbers(numbers: list[float]) -> None:
    digits = digits_apart(numbers, 4)
    assert len({f"{number:.{digits}g}" for number in numbers}) == len(set(numbers))
    assert digits == 4 or len({f"{number:.{digits - 1}g}" for number in numbers}) < len(set(numbers))


def test_job_names_have_few_digits_and_configs_the_exact_values() -> None:
    jobs = jobs_of(["lr=logspace(-4,0,1000)", "steps=1,2"])
    assert max(len(job.name) for job in jobs) <= len("lr=0.0001234 steps=2")
    assert len({job.name for job in jobs}) == 2000
    assert jobs[3].varied["lr"] == repr(jobs[3].config.lr)


def test_the_frame_has_the_ranks_that_the_command_line_prints(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["lr=0.01,0.6,0.5,0.4,1.5", "steps=60", "tracking=off"]
    frame = runner.sweep([*asked, "stop.target_loss=-1"])
    printed = [line for line in capsys.readouterr().out.splitlines() if "  loss " in line]
    ranked = frame[frame["rank"].notna()].sort_values("rank")
    assert [line.removeprefix("best").split()[:2] for line in printed] == [
        [str(place), f"lr={lr}"] for place, lr in enumerate(ranked["lr"], start=1)
    ]
    assert list(ranked["rank"]) == [1, 2, 3, 4, 5][: len(ranked)]
    assert "  distance " in printed[0]
    assert not any("error" in line for line in printed)
    assert "final/distance" in frame
    alone = runner.run(["lr=0.01", "steps=60", "tracking=off"])
    assert alone.result.distance == frame["final/distance"][0]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-2] for line in lines if line.startswith(("weight ", "loss "))] == ["distance", "error"]


def test_diverged_jobs_have_no_rank() -> None:
    frame = runner.sweep(["lr=0.1,50", "steps=300", "tracking=off", "quiet=true"])
    assert frame["rank"][0] == 1
    assert math.isnan(frame["rank"][1])
    assert isinstance(frame, pd.DataFrame)


def test_of_equal_losses_the_one_that_needed_fewer_steps_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    frame = runner.sweep(["lr=0.25,0.5,0.3", "steps=200", "tracking=off"])
    assert list(frame["final/loss"]) == [20.0] * 3
    assert list(frame["rank"]) == list(frame["best/step"].rank())
    best = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("best"))
    assert best == "best    1  lr=0.5   loss 20  at step 2  distance 0"
