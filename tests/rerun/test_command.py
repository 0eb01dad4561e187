"""The command finds and names a changed number, says what else differs, and refuses in one line what cannot be run."""

import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

import runner
from runner.composition import composition
from runner.execution.weights import weights_file
from runner.rerun.command import main
from runner.tracking.processes import process_tags
from runner.tracking.tracker import tracking_to
from tests.support.places import working_in

pytestmark = pytest.mark.xdist_group("rerun")  # they share a record

SECRET = ["objective=callable", "objective.target=basins:bowl", "allow_code=true", "initial_weight=[1.0,2.0]"]
BOWLS = "def bowl(weight, api_key=None):\n    return (weight**2).sum()\n"
Rerun = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Record a few runs by one recorder."""
    folder = tmp_path_factory.mktemp("rerun")
    with working_in(folder) as patch:
        patch.syspath_prepend(folder)
        (folder / "basins.py").write_text(BOWLS)
        with tracking_to(composition.to_config(composition.compose([])).tracking):
            runner.run(lr=0.05, steps=8, optimizer="momentum", name="single", quiet=True)
            runner.sweep(lr="0.1,0.5", steps=700, gradient_noise=0.1, repeats=2, name="null", quiet=True)
            runner.run([*SECRET, "steps=5", "name=code", "quiet=true"])
            runner.run([*SECRET, "steps=5", "name=secret", "objective.arguments.api_key=abc", "quiet=true"])
            runner.run(lr=1e30, steps=50, name="diverged", fail_on_divergence=False, quiet=True)
        yield folder


@pytest.fixture
def database(place: Path) -> Iterator[sqlite3.Connection]:
    """Give the database, restored afterwards."""
    path = place / "outputs/mlflow.db"
    with sqlite3.connect(path) as connection:
        before = sqlite3.connect(":memory:")
        connection.backup(before)
        yield connection
        connection.commit()
        before.backup(connection)
        before.close()


@pytest.fixture(scope="module")
def ids(place: Path) -> dict[str, str]:
    with sqlite3.connect(place / "outputs/mlflow.db") as connection:
        found = list(connection.execute("select name, run_uuid from runs order by start_time desc"))
    return {str(name): run_id for name, run_id in found}


@pytest.fixture
def rerun(ids: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Rerun:
    """Give the command; it takes the name of a run, and returns the exit code and the lines printed."""

    def run(name: str, *arguments: str) -> tuple[int, list[str], list[str]]:
        code = main([ids.get(name, name), *arguments])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def change(database: sqlite3.Connection, statement: str, *values: Any) -> None:
    assert database.execute(statement, values).rowcount > 0
    database.commit()


def test_a_single_run_a_job_and_a_sweep_are_verified(rerun: Rerun, ids: dict[str, str]) -> None:
    assert rerun("single", "--verify") == (0, [f"equal      run {ids['single']}: 45 numbers, to the bit"], [])
    job = ids["lr=0.1 seed=1"]
    code, out, _ = rerun(job, "--verify")
    assert (code, out[0].startswith(f"equal      run {job}: ")) == (0, True)
    sweep = next(run_id for name, run_id in ids.items() if name.startswith("lr=0.1,0.5"))
    code, out, _ = rerun(sweep, "--verify")
    assert (code, out[0].startswith(f"equal      sweep {sweep}: 4 jobs, ")) == (0, True)


@pytest.mark.parametrize(
    ("table", "key", "step", "value", "shown"),
    [
        ("metrics", "gradient", 5, 1.2345678901234567, "1.2345678901234567"),
        ("metrics", "final/weight", 8, 0.0, "0"),
        ("latest_metrics", "best/loss", 8, math.pi, "3.1415926535897931"),
        ("metrics", "loss", 3, 1.7976931348623157e308, "inf"),
    ],
)
def test_a_changed_number_is_found_and_named(
    rerun: Rerun,
    ids: dict[str, str],
    database: sqlite3.Connection,
    table: str,
    key: str,
    step: int,
    value: float,
    shown: str,
) -> None:
    where = f"where run_uuid = '{ids['single']}' and key = '{key}' and step = {step}"
    ((true,),) = database.execute(f"select value from metrics {where}")
    change(database, f"update {table} set value = ? {where}", value)
    code, out, _ = rerun("single", "--verify")
    assert code == 1
    assert out[0] == f"differs    run {ids['single']}: at step {step}, {key} is {true:.17g}, recorded {shown}"
    assert out[1].endswith(f"numbers differ, in {key}")


def test_a_changed_number_of_a_job_is_found_in_its_sweep(
    rerun: Rerun, ids: dict[str, str], database: sqlite3.Connection
) -> None:
    sweep = next(run_id for name, run_id in ids.items() if name.startswith("lr=0.1,0.5"))
    job = ids["lr=0.5 seed=0"]
    change(
        database, "update metrics set value = value + 1e-9 where run_uuid = ? and key = 'weight' and step = 300", job
    )
    code, out, _ = rerun(sweep, "--verify")
    assert (code, out[0]) == (1, f"differs    sweep {sweep}: 1 of 4 jobs")
    assert out[1].startswith(f"           run {job} (lr=0.5 seed=0): at step 300, weight is ")


def test_nan_and_infinities_are_equal_to_those_recorded(
    rerun: Rerun, ids: dict[str, str], database: sqlite3.Connection
) -> None:
    assert rerun("diverged", "--verify")[0] == 0
    change(database, "update metrics set is_nan = 1, value = 0 where run_uuid = ? and step = 1", ids["diverged"])
    code, out, _ = rerun("diverged", "--verify")
    assert (code, out[0].endswith("recorded nan")) == (1, True)


def test_what_else_differs_is_listed(
    rerun: Rerun, ids: dict[str, str], database: sqlite3.Connection, place: Path
) -> None:
    for key, value in (
        ("version.torch", "1.0"),
        ("version.numerics", "3"),
        ("device.vectors", "AVX9"),
        ("git.commit", "a" * 40),
    ):
        database.execute(
            "insert or replace into tags (key, value, run_uuid) values (?, ?, ?)", (key, value, ids["code"])
        )
    database.commit()
    (file,) = place.glob(f"outputs/artifacts/{ids['code']}/artifacts/source/basins.py")
    file.write_text(BOWLS + "\n")
    code, out, _ = rerun("code", "allow_code=true", "--verify")
    assert code == 0
    assert [line[11:].split()[0] for line in out[1:]] == ["NUMERICS", "torch", "CPU", "git", "basins.py,"]
    assert out[-2:] == ["           git commit unknown, recorded aaaaaaaaaa", "           basins.py, which has changed"]


def test_the_weights_file_is_compared(rerun: Rerun, ids: dict[str, str], place: Path) -> None:
    path = place / f"outputs/artifacts/{ids['single']}/artifacts/weights.npz"
    content = path.read_bytes()
    try:
        path.write_bytes(weights_file(dict(np.load(path)) | {"final": np.array([7], dtype=np.float32)}))
        code, out, _ = rerun("single", "--verify")
    finally:
        path.write_bytes(content)
    assert (code, "weights.npz/final[0] is " in out[0], out[0].endswith("recorded 7")) == (1, True, True)


def test_a_run_that_was_killed_is_compared_as_far_as_it_went(
    rerun: Rerun, ids: dict[str, str], database: sqlite3.Connection
) -> None:
    change(database, "update runs set status = 'KILLED' where run_uuid = ?", ids["single"])
    change(database, "delete from metrics where run_uuid = ? and step > 5 and key not like 'final/%'", ids["single"])
    change(database, "update metrics set value = 9 where run_uuid = ? and key like 'final/%'", ids["single"])
    last = "select value from metrics as m where (m.run_uuid, m.key) = (l.run_uuid, l.key) order by step desc limit 1"
    change(database, f"update latest_metrics as l set value = coalesce(({last}), 9) where run_uuid = ?", ids["single"])
    code, out, _ = rerun("single", "--verify")
    assert (code, out[0]) == (0, f"equal      run {ids['single']}: 21 numbers, to the bit")
    assert out[1].startswith("           its steps only: the recorded run ended early (")


def test_a_rerun_is_recorded_with_the_id_of_the_first(rerun: Rerun, ids: dict[str, str], place: Path) -> None:
    code, out, err = rerun("lr=0.1 seed=1")
    assert (code, err) == (0, [])
    assert f"equal      run {ids['lr=0.1 seed=1']}: " in out[-1]
    new = next(line.split()[2].rstrip(";") for line in out if line.startswith("recorded"))
    client = MlflowClient(f"sqlite:///{place}/outputs/mlflow.db")
    first, again = client.get_run(ids["lr=0.1 seed=1"]), client.get_run(new)
    assert again.data.tags["runner.rerun_of"] == first.info.run_id
    assert "mlflow.parentRunId" not in again.data.tags
    assert {"log_every": "3", "lr": "0.1", "seed": "1"}.items() <= again.data.params.items()


def test_overrides_change_values_and_options(rerun: Rerun) -> None:
    code, out, _ = rerun("single", "lr=0.1", "--verify")
    assert (code, out[-1]) == (1, "config     lr=0.1, recorded 0.05")
    code, out, _ = rerun("single", "optimizer=adam", "+tags.team=blue", "tracking=off")
    assert (code, out[-1]) == (0, "config     optimizer.name=adam, recorded momentum")
    code, out, _ = rerun("single", "log_every=3", "--verify")
    assert (code, out[-1]) == (0, "config     log_every=3, recorded null")


@pytest.mark.usefixtures("database")
def test_what_cannot_be_run_again_is_one_line(rerun: Rerun, ids: dict[str, str], place: Path) -> None:
    sweep = next(run_id for name, run_id in ids.items() if name.startswith("lr=0.1,0.5"))
    client = MlflowClient(f"sqlite:///{place}/outputs/mlflow.db")
    foreign = client.create_run("1").info.run_id
    client.set_terminated(foreign)
    going = client.create_run("1", tags=process_tags()).info.run_id
    none, some = "0" * 32, ids["single"][:4]
    key = "objective.arguments.api_key"
    cases = [
        ([none, "--verify"], f"{none}: no such run, expected the id of a run or a sweep, or its first characters"),
        ([some, "--verify"], f"{some}: 1"),
        (["--uri", "sqlite:///none.db", "abcd"], "uri=sqlite:///none.db: no database there"),
        (["code"], "objective=callable: runs code that the config names, expected allow_code=true on the command line"),
        (["secret", "allow_code=true"], f"{key}: expected its value as an override; it is secret"),
        ([foreign], f"run {foreign}: its config is not recorded, expected a run of this program, or a sweep's job"),
        ([going], f"run {going} "),
        ([sweep], f"{sweep}: a sweep, expected a run; --verify runs all its jobs again"),
        (["single", "lr=-1"], "lr=-1: expected a finite number above 0"),
        (["single", "lr=0.1,0.2"], "lr=0.1,0.2: "),
        (["single", "optimizer=addam"], "optimizer=addam: expected one of "),
        (["code", "allow_code=true", "objective.target=nowhere:bowl"], "objective.target=nowhere:bowl: "),
    ]
    for arguments, message in cases:
        code, out, err = rerun(*arguments)
        assert (code, out, len(err)) == (2, [], 1), (arguments, err)
        assert err[0].startswith(f"error: {message}"), arguments
    code, _, err = rerun("secret", "allow_code=true", f"{key}=abc", "--verify")
    assert (code, err) == (0, [])
