"""A run that is composed again from the record alone gives the recorded numbers to the bit; a changed one is found."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import runner
from runner.config.schema import Config
from runner.execution.job import record
from runner.launchers.in_process import InProcess
from runner.messages.errors import UserError
from runner.reading.collection import Runs
from runner.rerun.verification import Verdict, verify
from runner.sweeps.job import Job
from runner.sweeps.plan import GridPlan
from runner.sweeps.running import run_sweep
from runner.tracking.tracker import tracking_to
from tests.support.places import working_in
from tests.support.random_runs import options, random_config

pytestmark = pytest.mark.xdist_group("same bits")  # they share a record

SEED = 24
SWEEPS, JOBS, SINGLE = 4, 20, 20


def sweep(configs: list[Config]) -> None:
    jobs = [Job((f"seed={one.seed}",), (f"seed={one.seed}",), one, labels=(f"seed={one.seed}",)) for one in configs]
    run_sweep(GridPlan(jobs), [f"tags.sweep={configs[0].seed}"], InProcess(memory_mib=512))


def singles(configs: Iterator[Config]) -> None:
    for _ in range(SINGLE):
        while True:
            try:
                record(next(configs))
                break
            except UserError:  # the loss at the start is not a number
                continue


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Record random runs in a few sweeps, and alone, by one recorder."""
    folder = tmp_path_factory.mktemp("bits")
    with working_in(folder):
        rng = random.Random(SEED)
        tracking = {
            "name": "sqlite",
            "uri": "sqlite:///outputs/mlflow.db",
            "experiment": "random",
            "artifacts": "outputs/artifacts",
            "offline": "error",
        }
        configs = (random_config(rng, index, tracking) for index in itertools.count())
        first = next(configs)
        with tracking_to(first.tracking):
            for _ in range(SWEEPS):
                sweep(list(itertools.islice(configs, JOBS)))
            singles(configs)
        yield folder


@pytest.fixture(scope="module")
def found(place: Path) -> Runs:
    return runner.runs(experiment="random", uri=f"sqlite:///{place}/outputs/mlflow.db")


def alone(found: Runs, index: int) -> Verdict:
    (verdict,) = verify(found[index : index + 1], found.reader.client)
    return verdict


def test_a_hundred_random_runs_are_equal_to_the_bit_alone(found: Runs) -> None:
    assert len(found) == SWEEPS * JOBS + SINGLE
    assert {run.params["optimizer"] for run in found} == {*options("optimizer")}
    assert {run.params["schedule"] for run in found} == {*options("schedule")}
    assert {run.params["objective"] for run in found} == {*options("objective")}
    assert {run.outcome for run in found} >= {"COMPLETED", "STOPPED", "DIVERGED"}
    verdicts = [alone(found, index) for index in range(len(found))]
    different = [f"{one.run.name}: {one.comparison.first} {one.failure}" for one in verdicts if not one.is_equal]
    assert different == []
    assert all(one.comparison.compared > 10 and not one.circumstances for one in verdicts)
