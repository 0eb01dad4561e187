"""The description and the saved views of an experiment."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from runner.recorder.experiment_tags import MOST_VIEWS, is_ours, marked, write_experiment_tags
from runner.tracking.journal import EXPERIMENT, Begin, Shown, reference
from runner.tracking.provenance import DESCRIPTION
from tests.support.stores import experiment_of, opened

VIEW = "mlflow.sharedViewState.sweep-"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    return opened(tmp_path_factory.mktemp("store"), bulk=True).client


def test_a_description_of_ours_is_replaced_and_a_users_stays(client: MlflowClient) -> None:
    experiment = client.create_experiment("described")
    for text in ("first", "second"):
        write_experiment_tags(client, experiment, {DESCRIPTION: text})
        assert client.get_experiment(experiment).tags[DESCRIPTION] == marked(text)
    for mine in ("mine", marked("second").replace("second", "mine")):
        assert not is_ours(mine)
        client.set_experiment_tag(experiment, DESCRIPTION, mine)
        write_experiment_tags(client, experiment, {DESCRIPTION: "third"})
        assert client.get_experiment(experiment).tags[DESCRIPTION] == mine


def test_the_views_of_the_latest_sweeps_are_kept(client: MlflowClient) -> None:
    experiment = client.create_experiment("views")
    write_experiment_tags(client, experiment, {f"{VIEW}s-all": '{"createdAt":0}'})
    views = {f"{VIEW}{index:x}": f'{{"createdAt":{index}}}' for index in range(MOST_VIEWS + 2)}
    write_experiment_tags(client, experiment, views)
    kept = {key for key in client.get_experiment(experiment).tags if key.startswith(VIEW)}
    assert kept == {f"{VIEW}s-all", *list(views)[2:]}


@pytest.mark.parametrize("bulk", [True, False])
def test_references_become_the_ids_of_runs_and_experiments(tmp_path: Path, bulk: bool) -> None:
    store = opened(tmp_path, bulk)
    created = store.apply(Begin("a", "a", "some experiment", 1))
    assert created is not None
    text = f"{EXPERIMENT} {reference('a')} {reference('unknown')}"
    store.apply(Shown("a", {"note": text}, {"view": text}))
    store.flush()
    shown = f"{created.experiment_id} {created.run_id} unknown"
    assert store.client.get_run(created.run_id).data.tags["note"] == shown
    assert experiment_of(store.client, "some experiment").tags["view"] == shown
