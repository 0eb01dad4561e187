"""Config files create new files under `outputs/` only: never through a link, and never replacing a file."""

import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from runner.composition.composition import compose
from runner.messages.errors import UserError
from tests.conftest import ROOT, Command, Done

LOG = """
hydra:
  job_logging:
    version: 1
    formatters:
      plain: {{format: 'fsmonitor = touch ran'}}
    handlers:
      file: {{class: logging.FileHandler, formatter: plain, filename: {place}}}
    root: {{level: DEBUG, handlers: [file]}}
"""
KEPT = "what stood there"
# An untrusted experiment, and the files that it tries to write, relative to the user's working directory.
ATTACKS = {
    "git config": (LOG.format(place=".git/config"), [".git/config"]),
    "a module of a checkout": (LOG.format(place="runner/tensors/device.py"), ["runner/device.py"]),
    "a file in outputs": (LOG.format(place="outputs/mlflow.db"), ["outputs/mlflow.db"]),
    "through a link": (LOG.format(place="linked/rc"), ["../home/rc"]),
    "output_subdir": ("hydra:\n  output_subdir: conf\n", ["conf/config.yaml"]),
    "output_subdir through a link": ("hydra:\n  output_subdir: linked\n", ["../home/config.yaml"]),
    "output_subdir in outputs": ("hydra:\n  output_subdir: outputs/mine\n", ["outputs/mine/config.yaml"]),
    "output_subdir in linked outputs": ("hydra:\n  output_subdir: outputs/linked\n", ["../home/config.yaml"]),
    "a folder and its subfolder": (
        "hydra:\n  run:\n    dir: outputs\n  output_subdir: mine\n",
        ["outputs/mine/config.yaml"],
    ),
    "a text in a time": ("hydra:\n  output_subdir: outputs/${now:mine}\n", ["outputs/mine/config.yaml"]),
    "run.dir": ("hydra:\n  output_subdir: .hydra\n  run:\n    dir: linked/x\n", ["../home/x/.hydra/config.yaml"]),
    "run.dir only": ("hydra:\n  run:\n    dir: outputs/linked/x\n", ["../home/x"]),
    "Hydra's own subfolder": ("hydra:\n  output_subdir: .hydra\n", [".hydra/config.yaml"]),
    "the log of a job": ("choose: {job_logging: default}\nhydra:\n  job:\n    name: mine\n", ["mine.log"]),
    "the log of a job in outputs": (
        "choose: {job_logging: default}\nhydra:\n  run:\n    dir: outputs\n  job:\n    name: mine\n",
        ["outputs/mine.log"],
    ),
    "another folder to work in": ("hydra:\n  job:\n    chdir: true\n  run:\n    dir: outputs/x\n", ["outputs/x"]),
    "uri": ("tracking:\n  uri: sqlite:///linked/a.db\n", ["../home/a.db"]),
    "uri of a linked file": ("tracking:\n  uri: sqlite:///outputs/linked.db\n", ["../home/linked.db"]),
    "uri of the folder": ("tracking:\n  uri: sqlite:///a.db\n", ["a.db"]),
    "artifacts": ("tracking:\n  artifacts: linked\n", ["../home/1"]),
    "artifacts in linked outputs": ("tracking:\n  artifacts: outputs/linked/x\n", ["../home/x"]),
}
EXISTING = (
    ".git/config",
    "runner/tensors/device.py",
    "conf/config.yaml",
    "outputs/mine/config.yaml",
    "outputs/mine.log",
)
SWEEPS = {
    "sweep.dir": "hydra:\n  sweep:\n    dir: linked\n",
    "sweep.subdir": "hydra:\n  sweep:\n    dir: outputs/x\n    subdir: ../linked\n",
    "the number of a job": "hydra:\n  sweep:\n    dir: outputs\n    subdir: ${hydra.job.num}\n",
    "the sweep's own file": "choose: {sweeper: basic}\n",
    "a replaced one": "choose: {sweeper: basic}\nhydra:\n  sweep:\n    dir: outputs/mine\n",
    "a job's folder": "hydra:\n  output_subdir: mine\n  sweep:\n    dir: outputs\n    subdir: .\n",
    "its overrides": (
        "hydra:\n  sweep:\n    dir: outputs/x\n    subdir: ${hydra.job.override_dirname}\n"
        "  sweeper:\n    params:\n      name: \"'/../../../../home/a'\"\n"
    ),
    "a launcher's": ("choose: {launcher: submitit_local}\nhydra:\n  launcher:\n    submitit_folder: linked/%j\n"),
    "a launcher's own": "choose: {launcher: submitit_local}\n",
    "permissions": "hydra:\n  sweep:\n    mode: '0777'\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work"
    for path in (*EXISTING, "outputs/mine/multirun.yaml", "outputs/mine/mlflow.db", "../home/rc"):
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(KEPT)
    for link, target in {
        "linked": "../home",
        "outputs/linked": "../../home",
        "outputs/0": "../../home",
        "outputs/2": "../../home",
    }.items():
        (work / link).symlink_to(target)
    (work / "outputs" / "linked.db").symlink_to("../../home/linked.db")
    monkeypatch.chdir(work)
    return work


def as_it_is(folder: Path) -> dict[str, str | None]:
    paths = [path for path in folder.parent.rglob("*") if "given" not in path.parts]
    return {str(path): path.read_text() if path.is_file() else None for path in paths}


def write_untrusted(folder: Path, text: str) -> list[str]:
    """Write an untrusted config, a primary one if it chooses Hydra's options; return the arguments that use it."""
    (folder / "given" / "experiment").mkdir(parents=True)
    if not text.startswith("choose: "):
        (folder / "given" / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{text}")
        return ["--config-dir", "given", "experiment=evil"]
    choices, _, rest = text.partition("\n")
    config = (ROOT / "conf" / "config.yaml").read_text().partition("\nhydra:\n")[0]
    own = (ROOT / "conf" / "hydra" / "runner.yaml").read_text().partition("defaults:\n")[2].replace("/hydra/", "hydra/")
    for group, option in yaml.safe_load(choices)["choose"].items():
        own = re.sub(rf"(hydra/{group}:) \w+", rf"\1 {option}", own)
    last = "  - experiment: null\n"
    assert "  - hydra/runner\n" in config
    assert last in config
    config = config.replace("  - hydra/runner\n", "").replace(last, last + own)
    hydra = {
        "output_subdir": None,
        "run": {"dir": "."},
        "sweep": {"dir": ".", "subdir": "."},
        "job": {"name": "runner"},
    }
    merged = OmegaConf.merge({"hydra": hydra}, OmegaConf.create(rest))
    (folder / "given" / "evil.yaml").write_text(f"{config}\n{OmegaConf.to_yaml(merged)}")
    return ["--config-dir", "given", "--config-name", "evil"]


def refused(done: Done) -> None:
    assert done.code == 2, done.out + done.err
    assert done.errors
    assert len(done.errors) == len(done.err.splitlines())


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_config_file_creates_no_file_elsewhere_and_replaces_none(folder: Path, attack: str) -> None:
    text, wanted = ATTACKS[attack]
    arguments = write_untrusted(folder, text)
    before = as_it_is(folder)
    tracking = [] if "tracking" in text else ["tracking=off"]
    refused(Command(folder)(*arguments, "steps=2", *tracking))
    assert as_it_is(folder) == before
    assert all((folder / path).read_text() == KEPT for path in wanted if (folder / path).is_file())


@pytest.mark.parametrize("attack", SWEEPS)
def test_a_sweep_from_a_config_file_creates_no_file_elsewhere(folder: Path, attack: str) -> None:
    arguments = write_untrusted(folder, SWEEPS[attack])
    before = as_it_is(folder)
    launcher = [] if "launcher" in SWEEPS[attack] else ["hydra/launcher=basic"]
    done = Command(folder)(*arguments, "-m", "lr=0.1,0.2", "steps=2", "tracking=off", *launcher)
    after = {path: text for path, text in as_it_is(folder).items() if path != str(folder / "outputs" / "x")}
    assert (after, done.code) == (before, 2), done.out + done.err


@pytest.mark.parametrize("link", ["outputs/kept/config.yaml", "outputs/kept", "runner.log"])
def test_hydra_writes_through_no_existing_link(folder: Path, link: str) -> None:
    (folder / link).parent.mkdir(exist_ok=True)
    (folder / link).symlink_to(folder.parent / "home" / ("rc" if "." in link else ""))
    before = as_it_is(folder)
    done = Command(folder)("hydra.output_subdir=outputs/kept", "hydra/job_logging=default", "steps=2", "tracking=off")
    refused(done)
    assert f"{link} is a link" in done.err
    assert as_it_is(folder) == before


def composed(*arguments: str) -> list[str]:
    try:
        compose([f"hydra.searchpath=[file://{Path.cwd() / 'given'}]", *arguments])
    except UserError as error:
        return list(error.lines)
    return []


REFUSED_LOGGING = {
    "handlers": "handlers: {other: {class: logging.StreamHandler}}",
    "a null handler": "handlers: {file: {class: logging.NullHandler}}",
    "a file name": "handlers: {file: {filename: a.log}}",
    "formatters": "formatters: {simple: {format: 'x'}}",
    "a class": "handlers: {console: {class: logging.FileHandler}}",
    "a factory": "handlers: {console: {'()': evil.touch}}",
    "filters": "filters: {a: {name: b}}",
    "handlers of the root": "root: {handlers: [file]}",
    "handlers of a logger": "loggers: {a: {handlers: [file]}}",
    "a level that is more": "root: {level: 'ext://evil.touch'}",
    "a level of a handler": "handlers: {file: {level: DEBUG}}",
    "incremental": "incremental: true",
}


@pytest.mark.parametrize("option", ["none", "stdout", "disabled"])
@pytest.mark.parametrize("setting", REFUSED_LOGGING)
def test_a_config_file_can_set_only_levels_of_logging(folder: Path, setting: str, option: str) -> None:
    write_untrusted(folder, f"hydra:\n  job_logging:\n    {REFUSED_LOGGING[setting]}\n")
    (line, *_) = composed("experiment=evil", f"hydra/job_logging={option}")
    assert "hydra.job_logging." in line
    assert "not allowed in a config file, expected levels of loggers only" in line


def test_an_option_in_an_added_folder_is_checked_as_a_config_file(folder: Path) -> None:
    (folder / "given" / "hydra" / "job_logging").mkdir(parents=True)
    (folder / "given" / "hydra" / "job_logging" / "evil.yaml").write_text(
        "version: 1\nhandlers: {file: {class: logging.FileHandler, filename: a.log}}\nroot: {handlers: [file]}\n"
    )
    assert len(composed("hydra/job_logging=evil")) == 3


@pytest.mark.parametrize("option", ["none", "stdout", "disabled", "default"])
def test_levels_and_the_logging_option_can_be_chosen_in_a_config_file(folder: Path, option: str) -> None:
    arguments = write_untrusted(
        folder,
        f"choose: {{job_logging: {option}}}\n"
        "hydra:\n  run:\n    dir: outputs/logs/${now:%Y-%m-%d}/${now:%H-%M-%S}\n  job_logging:\n    version: 1\n"
        "    root: {level: DEBUG}\n    loggers: {hydra.core: {level: ERROR}}\n",
    )
    done = Command(folder)(*arguments, "steps=2", "tracking=off")
    assert done.code == 0, done.err
    assert [path.name for path in (folder / "outputs" / "logs").rglob("*.log")] == ["runner.log"] * (
        option == "default"
    )


def test_a_config_file_can_name_folders_in_outputs_repeatedly(folder: Path) -> None:
    write_untrusted(
        folder,
        "hydra:\n  output_subdir: hydra_files\n  run:\n    dir: outputs/kept/${hydra.job.name}\n"
        "tracking:\n  uri: sqlite:///outputs/kept/mlflow.db\n  artifacts: outputs/kept/artifacts\n",
    )
    for _ in range(2):
        done = Command(folder)("--config-dir", "given", "experiment=evil", "steps=2")
        assert done.code == 0, done.err
    kept = {path.name for path in (folder / "outputs" / "kept").rglob("*")}
    assert {"hydra_files", "config.yaml", "overrides.yaml", "mlflow.db", "artifacts"} <= kept
    assert not list((folder / "outputs" / "kept").rglob(".*"))


def test_paths_on_the_command_line_are_not_restricted(folder: Path) -> None:
    write_untrusted(folder, "hydra:\n  job_logging:\n    root: {level: INFO}\n")
    arguments = ["hydra.run.dir=../elsewhere", "hydra.output_subdir=files", "hydra/job_logging=default", "steps=2"]
    done = Command(folder)("--config-dir", "given", "experiment=evil", "tracking=off", *arguments)
    assert done.code == 0, done.err
    made = {path.name for path in (folder.parent / "elsewhere").rglob("*")}
    assert made == {"files", "config.yaml", "hydra.yaml", "overrides.yaml", "runner.log"}


def test_a_users_primary_config_works_without_logging_settings(folder: Path) -> None:
    shipped = (ROOT / "conf" / "config.yaml").read_text().partition("\nhydra:\n")[0]
    (folder / "given").mkdir()
    (folder / "given" / "mine.yaml").write_text(shipped.replace("  - override hydra/job_logging: none\n", ""))
    one = Command(folder)("--config-dir", "given", "--config-name", "mine", "steps=2", "tracking=off")
    sweep = Command(folder)("--config-dir", "given", "--config-name", "mine", "-m", "lr=0.1,0.2", "tracking=off")
    assert (one.code, sweep.code) == (0, 0), one.err + sweep.err
    assert list((folder / "outputs").rglob("config.yaml"))


@pytest.mark.parametrize("name", ["..", "a/b", ".hidden", "a b", "a\nb"])
@pytest.mark.parametrize("key", ["name", "id"])
def test_a_name_of_a_job_cannot_be_a_path(folder: Path, name: str, key: str) -> None:
    write_untrusted(folder, f"hydra:\n  job:\n    {key}: {name!r}\n".replace("'a\\nb'", '"a\\nb"'))
    assert "not allowed in a config file" in composed("experiment=evil")[0]
