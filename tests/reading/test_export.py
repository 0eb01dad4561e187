"""Exporting recorded runs as a user does, and what is recorded of a sweep of this program."""

from pathlib import Path

import pandas as pd
import pytest

from runner import Runs, runs
from runner.composition import composition
from runner.messages.errors import UserError
from tests.conftest import Command
from tests.support.record import rows

pytestmark = pytest.mark.xdist_group("export")  # they share a record
SWEEP = ["lr=0.1,0.7,1.5", "optimizer=gd,momentum", "steps=3", "quiet=true"]


@pytest.fixture(scope="module")
def recorded(shared_runner: Command) -> Command:
    assert shared_runner("-m", *SWEEP).code == 0
    return shared_runner


@pytest.fixture(scope="module")
def sweep(recorded: Command) -> Runs:
    found: Runs = runs(uri=f"sqlite:///{recorded.folder}/outputs/mlflow.db")
    return found


def export(recorded: Command, *arguments: str) -> tuple[int, list[str]]:
    done = recorded(*arguments, module="runner.export")
    return done.code, [*done.out.splitlines(), *done.errors]


def test_the_record_of_a_sweep_gives_configs_ranks_and_outcomes(sweep: Runs) -> None:
    assert sweep.varied == ["lr", "optimizer"]
    assert [run.config.lr for run in sweep] == [0.1, 0.7, 1.5, 0.1, 0.7, 1.5]
    again = composition.to_config(composition.compose(["lr=0.7", "optimizer=momentum", "steps=3", "quiet=true"]))
    (found,) = sweep.where(lr=0.7, optimizer="momentum")
    assert found.config.optimizer == again.optimizer
    assert found.recorded.overrides == ["lr=0.7", "optimizer=momentum", "steps=3", "quiet=true"]
    assert [run.metrics["rank"] for run in sweep.best(3)] == [1, 2, 3]
    assert {run.outcome for run in sweep} == {"COMPLETED"}
    assert found.trajectory().index.tolist() == [0, 1, 2, 3]


def test_sqlite_has_counted_its_rows_after_a_sweep(recorded: Command) -> None:
    assert rows(recorded, "select count(*) from sqlite_stat1 where tbl = 'metrics'")[0][0]


def test_histories_and_runs_are_exported(recorded: Command, sweep: Runs) -> None:
    parent = sweep.sweeps[0].id
    assert export(recorded, parent, "--to", "all.csv") == (0, ["exported   78 values of 6 runs to all.csv"])
    pd.testing.assert_frame_equal(
        pd.read_csv(recorded.folder / "all.csv"), sweep.histories().astype({"run_id": str, "key": str})
    )
    assert export(recorded, sweep[0].id, parent[:20], "--keys", "loss", "--to", "loss.parquet")[0] == 0
    losses = pd.read_parquet(recorded.folder / "loss.parquet")
    assert losses.value.tolist() == sweep.histories("loss").value.tolist()
    assert export(recorded, parent, "--frame", "--to", "runs.parquet") == (
        0,
        ["exported   6 rows of 6 runs to runs.parquet"],
    )
    frame = pd.read_parquet(recorded.folder / "runs.parquet")
    assert frame.lr.tolist() == sweep.frame().lr.tolist()
    assert frame["objective.bounds"].tolist() == ["[-10.0, 10.0]"] * 6
    assert not list(recorded.folder.glob(".*making"))


def test_mistakes_are_told_in_a_line_and_leave_no_file(recorded: Command, sweep: Runs) -> None:
    parent = sweep.sweeps[0].id
    (recorded.folder / "folder.csv").mkdir(exist_ok=True)
    for arguments, line in [
        (["ffff", "--to", "a.csv"], "ffff: no such run, expected the id of a run or a sweep, or its first characters"),
        ([parent, "--to", "a.txt"], "--to a.txt: expected a name that ends in .csv or .parquet"),
        ([parent, "--to", "no/a.csv"], "--to no/a.csv: no folder no, expected one"),
        ([parent, "--to", "a.csv", "--keys", "los"], "los: no run has recorded this metric; did you mean 'loss'?"),
    ]:
        assert export(recorded, *arguments) == (2, [line])
    code, lines = export(recorded, parent, "--to", "folder.csv")
    assert (code, lines[0].split(":")[0]) == (2, "--to folder.csv")
    assert not (recorded.folder / "a.csv").exists()
    assert not list(recorded.folder.glob(".*making"))


def test_a_missing_database_and_a_wrong_address_are_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no database there"):
        runs(uri=f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(UserError, match=r"uri=mlflow\.db: expected a database or server"):
        runs(uri="mlflow.db")
    assert not list(tmp_path.iterdir())
