"""A stranger's config runs no code, imports nothing, writes nowhere else and does not eat the memory."""

import resource
import time
from pathlib import Path

import pytest

from tests.conftest import Command, Done

EVIL = """
import pathlib
pathlib.Path("ran").write_text("code ran")

def touch(*_arguments, **_named):
    pathlib.Path("ran").write_text("code ran")
"""

DOORS = {
    "callbacks": "hydra:\n  callbacks:\n    evil:\n      _target_: evil.touch\n",
    "job_logging": (
        "hydra:\n  job_logging:\n    version: 1\n    handlers:\n      evil:\n        (): evil.touch\n"
        "    root:\n      handlers: [evil]\n"
    ),
    "hydra_logging": "hydra:\n  hydra_logging:\n    version: 1\n    formatters:\n      evil:\n        (): evil.touch\n",
    "handler": (
        "hydra:\n  job_logging:\n    version: 1\n    handlers:\n      evil:\n        class: evil.touch\n"
        "    root:\n      handlers: [evil]\n"
    ),
    "outside": (
        "hydra:\n  job_logging:\n    version: 1\n    handlers:\n      evil:\n        class: logging.FileHandler\n"
        "        filename: ../ran\n    root:\n      handlers: [evil]\n"
    ),
    "searchpath": "hydra:\n  searchpath: ['pkg://evil']\n",
    "env_set": "hydra:\n  job:\n    env_set:\n      MLFLOW_TRACKING_URI: sqlite:///elsewhere.db\n",
    "output_subdir": "hydra:\n  output_subdir: ../..\n",
    "run.dir": "hydra:\n  run:\n    dir: /tmp/elsewhere\n",
    "sweep.subdir": "hydra:\n  sweep:\n    subdir: ../elsewhere\n",
    "target": "hydra:\n  sweeper:\n    params:\n      lr:\n        _target_: evil.touch\n",
    "submitit": "hydra:\n  launcher:\n    setup: ['touch ran']\n",
    "allow_code": "allow_code: true\nobjective:\n  target: evil:touch\n",
}


@pytest.fixture
def stranger(runner: Command) -> Command:
    folder = runner.folder / "work"
    folder.mkdir()
    (folder / "evil.py").write_text(EVIL)
    return Command(folder)


def ran(runner: Command, done: Done) -> bool:
    everywhere = [path.name for path in runner.folder.parent.rglob("*")]
    return "ran" in everywhere or "elsewhere" in everywhere or "Traceback" in done.err


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("way", ["experiment", "primary"])
def test_a_config_file_opens_no_door(stranger: Command, door: str, way: str) -> None:
    folder = stranger.folder / "given"
    (folder / "experiment").mkdir(parents=True)
    if way == "experiment":
        (folder / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{DOORS[door]}")
        done = stranger("--config-dir", "given", "experiment=evil", "steps=2", "tracking=off")
    else:
        ours = (Path(__file__).parents[1] / "conf" / "config.yaml").read_text().partition("\nhydra:\n")[0]
        body = "\n".join(line for line in ours.splitlines() if not line.startswith("allow_code"))
        (folder / "evil.yaml").write_text(f"{body}\n{DOORS[door]}")
        done = stranger("--config-dir", "given", "--config-name", "evil", "steps=2", "tracking=off")
    assert not ran(stranger, done)
    # Hydra takes a search path from the primary config alone; in another it refuses the key itself.
    assert done.code == 2, done.out + done.err
    assert all(line.startswith("error: ") for line in done.err.splitlines())


def test_the_command_line_opens_them(stranger: Command) -> None:
    done = stranger("hydra.output_subdir=hydra_files", "hydra.run.dir=runs", "steps=2", "tracking=off")
    assert done.code == 0, done.err
    assert (stranger.folder / "runs" / "hydra_files" / "config.yaml").is_file()


@pytest.mark.parametrize("arguments", [["steps=2"], ["-m", "lr=0.1,0.2", "steps=2"], ["--help"]])
def test_plugins_of_the_working_directory_are_not_imported(stranger: Command, arguments: list[str]) -> None:
    plugins = stranger.folder / "hydra_plugins" / "evil_plugin"
    plugins.mkdir(parents=True)
    (plugins / "__init__.py").write_text(EVIL)
    done = stranger(*arguments, "tracking=off")
    assert done.code == 0, done.err
    assert not ran(stranger, done)


def test_an_alias_bomb_is_refused_in_no_time_and_memory(stranger: Command) -> None:
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    folder = stranger.folder / "given" / "experiment"
    folder.mkdir(parents=True)
    bomb = "\n".join(f"  {line}" for line in lines)
    (folder / "bomb.yaml").write_text(f"# @package _global_\ntags:\n{bomb}\n")
    started = time.monotonic()
    done = stranger("--config-dir", "given", "experiment=bomb", "steps=2")
    assert time.monotonic() - started < 10
    assert done.code == 2
    assert "expected at most 20,000 values" in done.err
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_500_000  # of all children so far


def test_the_part_of_omegaconf_that_is_replaced_is_there() -> None:
    import omegaconf._utils
    import omegaconf.omegaconf
    import yaml

    from runner.doors import bound_yaml

    bound_yaml()
    loaders = [module.get_yaml_loader() for module in (omegaconf._utils, omegaconf.omegaconf)]
    assert all(issubclass(loader, yaml.SafeLoader) and loader.__name__ == "BoundedLoader" for loader in loaders)
