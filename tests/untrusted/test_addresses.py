"""Config files send nothing away: servers and environment variables are accepted on the command line only."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.composition.composition import compose, compose_sweep, to_config
from runner.messages.errors import UserError
from tests.conftest import Command

SECRET = "env-abcdef-123"


class Listener(http.server.HTTPServer):
    """An untrusted server that notes its requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        self.calls: list[object] = []

    def verify_request(self, _request: object, client_address: object) -> bool:
        """Note the request and do not answer."""
        self.calls.append(client_address)
        return False


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A_SECRET", SECRET)
    monkeypatch.setenv("A_NUMBER", "71300571")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for group in ("experiment", "tracking"):
        (tmp_path / "given" / group).mkdir(parents=True)
    return tmp_path / "given"


def experiment(given: Path, text: str) -> list[str]:
    (given / "experiment" / "theirs.yaml").write_text(f"# @package _global_\n{text}")
    return [f"hydra.searchpath=[file://{given}]", "experiment=theirs"]


@pytest.mark.parametrize("where", ["experiment", "option", "swept"])
def test_a_server_named_in_a_config_file_gets_no_request(given: Path, listener: Listener, where: str) -> None:
    uri = f"http://127.0.0.1:{listener.server_port}/x-${{oc.env:A_SECRET}}"
    experiment(given, f"tracking:\n  name: server\n  uri: {uri}\n  artifacts: null\n")
    (given / "tracking" / "mine.yaml").write_text(
        f"name: server\nuri: {uri}\nexperiment: a\nartifacts: null\noffline: spool\n"
    )
    arguments = {"experiment": ["experiment=theirs"], "option": ["tracking=mine"], "swept": ["-m", "tracking=off,mine"]}
    done = Command(given.parent)(
        "--config-dir", "given", *arguments[where], "steps=2", MLFLOW_TRACKING_TOKEN=SECRET, A_SECRET=SECRET
    )
    assert done.code == 2
    assert "tracking.uri=http://127.0.0.1:" in done.err
    assert "not allowed in a config file" in done.err
    assert len(done.errors) == len(done.err.splitlines())
    assert SECRET not in done.out + done.err
    assert listener.calls == []
    assert not (given.parent / "outputs").exists()


ELSEWHERE = [
    "http://host",
    "https://me:pw@host/",
    "postgresql://host/db",
    "mysql+pymysql://host/db",
    "mssql+pyodbc://host/db",
    "sqlite:///outputs/a.db?mode=ro",
    "sqlite:///file:outputs/a.db?uri=true",
    "sqlite:///outputs/%2e%2e/a.db",
    "sqlite:////etc/a.db",
    "${tags.uri}",
]
SENT = {
    "experiment": "tracking:\n  experiment: x-${oc.env:A_SECRET}\n",
    "another key": "tags:\n  x: ${oc.env:A_SECRET}\ntracking:\n  experiment: ${tags.x}\n",
    "a number": "tracking:\n  experiment: ${oc.decode:${oc.env:A_NUMBER}}\n",
    "artifacts": "tracking:\n  artifacts: outputs/${oc.env:A_SECRET}\n",
    "a database": "tracking:\n  uri: sqlite:///outputs/${oc.env:A_SECRET}.db\n",
    "where to record": "tracking:\n  experiment: x-${oc.env:MLFLOW_TRACKING_URI,y}\n",
    "another variable": "tracking:\n  uri: ${oc.env:A_SECRET}\n",
    "two": "tracking:\n  uri: ${oc.env:MLFLOW_TRACKING_URI,a}${oc.env:MLFLOW_TRACKING_URI,b}\n",
    "a parent": "parent_run: ${oc.env:A_SECRET}\n",
    "a launcher": "hydra:\n  launcher:\n    partition: ${oc.env:A_SECRET}\n",
    "what is swept": "hydra:\n  sweeper:\n    params:\n      tracking.experiment: a,b\n",
    "what is swept, of the environment": "hydra:\n  sweeper:\n    params:\n      name: ${oc.env:A_SECRET}\n",
    "what is swept, as a mapping": "hydra:\n  sweeper:\n    params:\n      tracking: '{uri: http://host}'\n",
    "a copy of the environment": "hydra:\n  job:\n    env_copy: [A_SECRET]\n",
}


def refusals(*overrides: str) -> list[str]:
    with pytest.raises(UserError, match="not allowed in a config file") as error:
        compose(overrides)
    return list(error.value.lines)


@pytest.mark.parametrize("uri", ELSEWHERE)
def test_a_config_file_cannot_name_a_store_outside_outputs(given: Path, uri: str) -> None:
    overrides = experiment(given, f"tags:\n  uri: http://host\ntracking:\n  uri: {uri}\n")
    assert any(line.startswith("tracking.uri=") for line in refusals(*overrides))
    assert to_config(compose([*overrides, "tracking.uri=http://host/"])).tracking.uri == "http://host/"


@pytest.mark.parametrize("setting", SENT)
def test_a_config_file_cannot_send_environment_variables(given: Path, setting: str) -> None:
    assert refusals(*experiment(given, SENT[setting]))


@pytest.mark.parametrize("part", ["launcher", "sweeper"])
def test_settings_of_unknown_launchers_and_sweepers_are_refused_in_config_files(given: Path, part: str) -> None:
    text = f"hydra:\n  {part}:\n    _target_: hydra_plugins.other.Plugin\n    storage: http://host/\n"
    lines = refusals(*experiment(given, text))
    for setting in ("_target_=hydra_plugins.other.Plugin", "storage=http://host/"):
        expected = f"not allowed in a config file, expected no settings of this {part}, or allow_code=true"
        assert f"hydra.{part}.{setting}: {expected}" in lines
    target = f"++hydra.{part}={{_target_:hydra_plugins.other.Plugin,storage:mine}}"
    assert compose([target]).hydra[part].storage == "mine"


def test_a_config_file_can_name_a_database_in_outputs(given: Path) -> None:
    overrides = experiment(given, "tracking:\n  uri: sqlite:///outputs/mine.db\n  experiment: mine\n")
    tracking = to_config(compose(overrides)).tracking
    assert (tracking.uri, tracking.experiment) == ("sqlite:///outputs/mine.db", "mine")


@pytest.mark.parametrize("option", ["server", "sqlite", "own"])
def test_the_tracking_uri_is_read_from_the_environment(
    given: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "${oc.env:MLFLOW_TRACKING_URI,sqlite:///outputs/a.db}"
    (given / "tracking" / "own.yaml").write_text(
        f"name: server\nuri: '{uri}'\nexperiment: a\nartifacts: null\noffline: error\n"
    )
    overrides = [f"hydra.searchpath=[file://{given}]", f"tracking={option}"]
    for uri in ("http://host:5000", "postgresql://me:pw@host/db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert to_config(compose(overrides)).tracking.uri == uri
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    default = {"server": "http://127.0.0.1:5000", "sqlite": "sqlite:///outputs/mlflow.db"}
    assert to_config(compose(overrides)).tracking.uri == default.get(option, "sqlite:///outputs/a.db")


@pytest.mark.usefixtures("given")
def test_the_command_line_can_use_any_environment_variable() -> None:
    overrides = ["tracking.uri=http://${oc.env:A_SECRET}/", "tracking.experiment=${oc.env:A_SECRET}"]
    assert to_config(compose(overrides)).tracking.experiment == SECRET
    _, master = compose_sweep([*overrides, "lr=0.1,0.2"])
    assert to_config(master).tracking.uri == f"http://{SECRET}/"
