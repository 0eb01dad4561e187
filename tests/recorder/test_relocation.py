"""Records under `outputs/` follow the working directory when it is moved or copied."""

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from runner.recorder.relocation import follow
from runner.recorder.replay import Replayer
from runner.tracking.journal import Artifact, Begin, Close, End, Entry, Open, encode
from tests.conftest import Command
from tests.support.stores import opened


@pytest.fixture
def first(folder: Path, tmp_path: Path) -> Path:
    """A working directory, whose name needs quoting in a URI, with a run in its record."""
    work = tmp_path / "the first %"
    work.mkdir()
    folder.rename(work / "outputs")
    record(work, "early")
    return work


def record(work: Path, run: str) -> None:
    store = opened(work / "outputs", bulk=True)
    for entry in (Begin(run, run, "descent", 1), Artifact(run, "config.yaml", run.encode()), End(run, "FINISHED", 2)):
        store.apply(entry)
    store.close()


def artifacts(work: Path) -> dict[str, str]:
    """Return each run's `config.yaml` as MLflow returns it."""
    client = MlflowClient(f"sqlite:///{work}/outputs/mlflow.db".replace("%", "%25"))
    experiment = client.get_experiment_by_name("descent")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return {str(run.info.run_name): read(client, run.info.run_id) for run in runs}


def read(client: MlflowClient, run_id: str) -> str:
    return Path(client.download_artifacts(run_id, "config.yaml")).read_text()


def test_a_moved_record_keeps_its_artifacts_and_takes_new_ones(first: Path, tmp_path: Path) -> None:
    second = first.rename(tmp_path / "second")
    record(second, "late")
    assert artifacts(second) == {"early": "early", "late": "late"}
    assert not first.exists()
    third = second.rename(tmp_path / "third é")
    follow(third / "outputs/mlflow.db")  # as the UI does
    assert artifacts(third) == {"early": "early", "late": "late"}


def test_a_copied_record_is_independent(first: Path, tmp_path: Path) -> None:
    before = sorted(first.rglob("*"))
    second = Path(shutil.copytree(first, tmp_path / "second"))
    record(second, "late")
    assert artifacts(first) == {"early": "early"}
    assert sorted(path for path in first.rglob("*") if "mlflow.db" not in path.name) == sorted(
        path for path in before if "mlflow.db" not in path.name
    )
    shutil.rmtree(first)
    assert artifacts(second) == {"early": "early", "late": "late"}


def test_artifacts_outside_outputs_are_not_moved(first: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere/outputs/artifacts"
    client = MlflowClient(f"sqlite:///{first}/outputs/mlflow.db".replace("%", "%25"))
    experiment = client.create_experiment("apart", elsewhere.as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "apart", "config.yaml")
    follow(first / "outputs/mlflow.db")
    assert client.get_experiment(experiment).artifact_location == elsewhere.as_uri()
    assert read(client, run_id) == "apart"


@pytest.mark.parametrize("is_copied", [True, False])
def test_a_journal_moved_with_its_outputs_is_recorded_in_the_new_place(
    first: Path, tmp_path: Path, is_copied: bool
) -> None:
    opening = Open(f"sqlite:///{first}/outputs/mlflow.db".replace("%", "%25"), str(first / "outputs/artifacts"), {})
    entries: list[Entry] = [
        opening,
        Begin("left", "left", "descent", 1),
        Artifact("left", "config.yaml", b"left"),
        Close(),
    ]
    journal = first / "outputs/journals/a.journal"
    journal.parent.mkdir()
    journal.write_bytes(b"".join(map(encode, entries)))
    second = tmp_path / "second"
    if is_copied:
        shutil.copytree(first, second)
    else:
        first.rename(second)
    done = Replayer([]).replay(second / "outputs/journals", patience=0)
    assert (done.kept, done.runs) == ([], 1)
    assert artifacts(second) == {"early": "early", "left": "left"}
    assert first.exists() == is_copied
    assert not is_copied or artifacts(first) == {"early": "early"}


def test_a_run_in_a_moved_project_does_not_use_the_old_folder(tmp_path: Path) -> None:
    old, new = Command(tmp_path / "old"), Command(tmp_path / "new")
    old.folder.mkdir()
    assert old("steps=2", "name=early", "quiet=true").code == 0
    old.folder.rename(new.folder)
    old.folder.touch()  # so that nobody, the superuser included, can make a folder there again
    done = new("steps=2", "name=late", "quiet=true")
    assert (done.code, done.err) == (0, "")
    assert {name: "steps: 2" in text for name, text in artifacts(new.folder).items()} == {"early": True, "late": True}
