"""Untrusted config files run no code, import nothing, write only in `outputs/` and are bounded in memory."""

import re
import resource
import time
from pathlib import Path

import pytest

from runner.composition.composition import compose
from runner.messages.errors import UserError
from tests.conftest import Command, Done

EVIL = """
import pathlib
pathlib.Path("ran").write_text("code ran")

def touch(*_arguments, **_named):
    pathlib.Path("ran").write_text("code ran")
"""

SETTINGS = {
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
    "a folder that no system has": 'hydra:\n  run:\n    dir: "outputs/a\\0b"\n',
    "run.dir": "hydra:\n  run:\n    dir: /tmp/elsewhere\n",
    "sweep.subdir": "hydra:\n  sweep:\n    subdir: ../elsewhere\n",
    "target": "hydra:\n  sweeper:\n    params:\n      lr:\n        _target_: evil.touch\n",
    "submitit": "hydra:\n  launcher:\n    setup: ['touch ran']\n",
    "submitit's parameters": (
        "hydra:\n  launcher:\n    parameters: {slurm_setup: ['touch ran'], slurm_partition: '$(touch ran)'}\n"
    ),
    "ray": "hydra:\n  launcher:\n    runtime_env: {pip: evil}\n    address: elsewhere:1\n",
    "a folder by another name": "hydra:\n  run:\n    dir: ${tags.x}\ntags:\n  x: /tmp/elsewhere\n",
    "a folder in a time": "hydra:\n  run:\n    dir: ${now:/tmp/elsewhere}\n",
    "a folder of the environment": "hydra:\n  output_subdir: ${oc.env:HOME}/elsewhere\n",
    "job.name": "hydra:\n  job:\n    name: ../elsewhere\n",
    "a target by another name": (
        "hydra:\n  launcher:\n    memory_mib: ${hydra.job_logging.x}\n"
        "  job_logging:\n    x:\n      _target_: evil.touch\n"
    ),
    "attributes of a handler": (
        "hydra:\n  job_logging:\n    version: 1\n    handlers:\n      evil:\n        class: logging.FileHandler\n"
        "        delay: true\n        filename: here\n        '.':\n          baseFilename: ../ran\n"
    ),
    "arguments": (
        "hydra:\n  overrides:\n    task: [allow_code=true, objective=callable, 'objective.target=\"evil:touch\"']\n"
    ),
    "Hydra's arguments": "hydra:\n  overrides:\n    hydra: [hydra.sweep.dir=/tmp/elsewhere]\n",
    "params": "hydra:\n  sweeper:\n    params:\n      allow_code: true\n      objective: callable\n",
    "Hydra's params": "hydra:\n  sweeper:\n    params:\n      hydra.sweep.dir: /tmp/elsewhere\n",
    "lines of a job script": 'hydra:\n  launcher:\n    partition: "a\\ntouch ran"\n',
    "tracking.uri": "tracking:\n  uri: sqlite:///../elsewhere/mlflow.db\n",
    "tracking.artifacts": "tracking:\n  artifacts: /tmp/elsewhere\n",
    "no YAML": "tags:\n  a: !!python/object/apply:os.system [touch ran]\n",
    "nested deeply": f"tags:\n  a: {'[' * 5000}{']' * 5000}\n",
    "allow_code": "allow_code: true\nobjective:\n  target: evil:touch\n",
}


@pytest.fixture
def attacked(runner: Command) -> Command:
    folder = runner.folder / "work"
    folder.mkdir()
    (folder / "evil.py").write_text(EVIL)
    return Command(folder)


def ran(runner: Command, done: Done) -> bool:
    everywhere = [path.name for path in runner.folder.parent.rglob("*")]
    return "ran" in everywhere or "elsewhere" in everywhere or "Traceback" in done.err


LEVELS = "levels of loggers only, as in root.level or loggers.NAME.level, or allow_code=true"
PATH = "a new path inside outputs/ without links"
OTHERWISE = f"{PATH}, or the setting on the command line"
INTERPOLATION = "no interpolations but those of Hydra's job, folders and time, or allow_code=true"
SCRIPT = (
    "none of setup, python, srun_args, additional_parameters, runtime_env, address, and no line breaks, "
    "or allow_code=true"
)
RESOURCES = (
    "words or numbers for name, timeout_min, cpus_per_task, mem_gb, gpus_per_node, slurm_partition, slurm_account, "
    "slurm_qos, slurm_constraint, slurm_time, slurm_cpus_per_gpu, slurm_mem_per_cpu only, or allow_code=true"
)
VARIED = "no allow_code, tracking or settings of Hydra among what is swept, or allow_code=true"
# The settings refused in each file, with what is allowed instead.
REFUSED = {
    "callbacks": {"hydra.callbacks.evil._target_=evil.touch": "nothing, or allow_code=true"},
    "job_logging": {
        "hydra.job_logging.root.handlers=evil": LEVELS,
        "hydra.job_logging.handlers.evil.()=evil.touch": LEVELS,
    },
    "hydra_logging": {"hydra.hydra_logging.formatters.evil.()=evil.touch": LEVELS},
    "handler": {
        "hydra.job_logging.root.handlers=evil": LEVELS,
        "hydra.job_logging.handlers.evil.class=evil.touch": LEVELS,
    },
    "outside": {
        "hydra.job_logging.root.handlers=evil": LEVELS,
        "hydra.job_logging.handlers.evil.class=logging.FileHandler": LEVELS,
        "hydra.job_logging.handlers.evil.filename=../ran": LEVELS,
    },
    "searchpath": {"hydra.searchpath=pkg://evil": "file:// folders, or allow_code=true"},
    "env_set": {"hydra.job.env_set.MLFLOW_TRACKING_URI=sqlite:///elsewhere.db": "nothing, or allow_code=true"},
    "output_subdir": {"hydra.output_subdir=../..": OTHERWISE},
    "a folder that no system has": {
        "hydra.run.dir=outputs/a\\x00b": "a path of characters that can be printed, or allow_code=true"
    },
    "run.dir": {"hydra.run.dir=/tmp/elsewhere": OTHERWISE},
    "sweep.subdir": {"hydra.sweep.subdir=../elsewhere": OTHERWISE},
    "target": {"hydra.sweeper.params.lr._target_=evil.touch": "no _target_ within it, or allow_code=true"},
    "submitit": {"hydra.launcher.setup=touch ran": SCRIPT},
    "submitit's parameters": {
        "hydra.launcher.parameters.slurm_setup=touch ran": RESOURCES,
        "hydra.launcher.parameters.slurm_partition=$(touch ran)": RESOURCES,
    },
    "ray": {"hydra.launcher.runtime_env.pip=evil": SCRIPT, "hydra.launcher.address=elsewhere:1": SCRIPT},
    "a folder by another name": {"hydra.run.dir=${tags.x}": INTERPOLATION},
    "a folder in a time": {"hydra.run.dir=${now:/tmp/elsewhere}": INTERPOLATION},
    "a folder of the environment": {"hydra.output_subdir=${oc.env:HOME}/elsewhere": INTERPOLATION},
    "job.name": {"hydra.job.name=../elsewhere": "a name of letters, digits, - and _, or allow_code=true"},
    "a target by another name": {
        "hydra.launcher.memory_mib=${hydra.job_logging.x}": INTERPOLATION,
        "hydra.job_logging.x._target_=evil.touch": LEVELS,
    },
    "attributes of a handler": {
        "hydra.job_logging.handlers.evil.class=logging.FileHandler": LEVELS,
        "hydra.job_logging.handlers.evil.delay=true": LEVELS,
        "hydra.job_logging.handlers.evil.filename=here": LEVELS,
        "hydra.job_logging.handlers.evil...baseFilename=../ran": LEVELS,
    },
    "arguments": dict.fromkeys(
        [
            "hydra.overrides.task=allow_code=true",
            "hydra.overrides.task=objective=callable",
            'hydra.overrides.task=objective.target="evil:touch"',
        ],
        "as an argument",
    ),
    "Hydra's arguments": {"hydra.overrides.hydra=hydra.sweep.dir=/tmp/elsewhere": "as an argument"},
    "params": {"hydra.sweeper.params.allow_code=true": VARIED},
    "Hydra's params": {"hydra.sweeper.params.hydra.sweep.dir=/tmp/elsewhere": VARIED},
    "lines of a job script": {"hydra.launcher.partition=a touch ran": SCRIPT},
    "tracking.uri": {
        "tracking.uri=sqlite:///../elsewhere/mlflow.db": f"{PATH}, as in sqlite:///outputs/mine.db;"
        " a server or another database on the command line or in MLFLOW_TRACKING_URI"
    },
    "tracking.artifacts": {"tracking.artifacts=/tmp/elsewhere": OTHERWISE},
    "allow_code": {"allow_code=true": "on the command line"},
}
# Messages for files that cannot be read and for settings that Hydra itself refuses.
OTHER = {
    ("searchpath", "experiment"): [
        r"In 'experiment/evil': Overriding hydra.searchpath is only supported from the primary config"
    ],
    ("no YAML", "experiment"): [r"given/experiment/evil.yaml, line 3: not valid YAML \(.* the tag '.*os.system'\)"],
    ("no YAML", "primary"): [r"given/evil.yaml, line \d+: not valid YAML \(.* the tag '.*os.system'\)"],
    ("nested deeply", "experiment"): [r"given/experiment/evil.yaml: nested too deeply"],
    ("nested deeply", "primary"): [r"given/evil.yaml: nested too deeply"],
}
# Further settings that the same file sets and that are refused.
UNKNOWN = r"objective.target=evil:touch: unknown key, expected one of objective.name, .*"
MORE = {
    ("run.dir", "primary"): [rf"hydra.output_subdir=.hydra: not allowed in a config file, expected {OTHERWISE}"],
    ("allow_code", "experiment"): [UNKNOWN],
    ("allow_code", "primary"): [UNKNOWN],
}


@pytest.mark.parametrize("key", SETTINGS)
@pytest.mark.parametrize("way", ["experiment", "primary"])
def test_a_config_file_cannot_make_a_refused_setting(attacked: Command, key: str, way: str) -> None:
    folder = attacked.folder / "given"
    (folder / "experiment").mkdir(parents=True)
    tracking = "tracking=sqlite" if key.startswith("tracking.") else "tracking=off"
    if way == "experiment":
        (folder / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{SETTINGS[key]}")
        done = attacked("--config-dir", "given", "experiment=evil", "steps=2", tracking)
    else:
        (folder / "evil.yaml").write_text(primary(SETTINGS[key]))
        done = attacked("--config-dir", "given", "--config-name", "evil", "steps=2", tracking)
    assert not ran(attacked, done)
    assert done.code == 2, done.out + done.err
    assert len(done.errors) == len(done.err.splitlines())
    refused = [
        f"{setting}: not allowed in a config file, expected {allowed}"
        for setting, allowed in REFUSED.get(key, {}).items()
    ]
    expected = [*OTHER.get((key, way), map(re.escape, refused)), *MORE.get((key, way), [])]
    errors = [line.removeprefix(f"{attacked.folder}/") for line in done.errors]
    assert len(errors) == len(expected), errors
    for line in expected:
        assert any(re.fullmatch(line, one) for one in errors), (line, errors)


def primary(settings: str) -> str:
    """Return the runner's primary config with these settings, which its options do not override."""
    shipped = (Path(__file__).parents[2] / "conf" / "config.yaml").read_text().partition("\nhydra:\n")[0]
    given = {line.partition(":")[0] for line in settings.splitlines()}
    body = "\n".join(line for line in shipped.splitlines() if line.partition(":")[0] not in given)
    first, last = "  - _self_\n", "  - experiment: null\n"
    assert first in body
    assert last in body
    return f"{body.replace(first, '').replace(last, last + first)}\n{settings}"


SWEPT = {
    "allow_code": "allow_code: true\nobjective:\n  target: evil:touch\n",
    "uri": "tracking:\n  uri: sqlite:////tmp/elsewhere.db\n",
}


@pytest.mark.parametrize("key", SWEPT)
@pytest.mark.parametrize("launcher", ["batched", "basic"])
def test_a_swept_experiment_cannot_make_a_refused_setting(attacked: Command, key: str, launcher: str) -> None:
    folder = attacked.folder / "given" / "experiment"
    folder.mkdir(parents=True)
    choice = "defaults:\n  - override /objective: callable\n" if key == "allow_code" else ""
    (folder / "evil.yaml").write_text(f"# @package _global_\n{choice}{SWEPT[key]}")
    done = attacked("--config-dir", "given", "-m", "experiment=evil,seed", "steps=2", f"hydra/launcher={launcher}")
    assert not ran(attacked, done)
    assert done.code == 2, done.out + done.err
    assert "not allowed in a config file" in done.err


@pytest.mark.parametrize("settings", ["setup: [touch ran]", "submitit_folder: /tmp/elsewhere"])
def test_a_config_file_cannot_set_a_launcher_that_the_command_line_chooses(attacked: Command, settings: str) -> None:
    folder = attacked.folder / "given" / "experiment"
    folder.mkdir(parents=True)
    (folder / "evil.yaml").write_text(f"# @package _global_\nhydra:\n  launcher:\n    {settings}\n")
    arguments = ["experiment=evil", "lr=0.1,0.2", "steps=2", "tracking=off", "hydra/launcher=submitit_slurm"]
    done = attacked("--config-dir", "given", "-m", *arguments)
    assert done.code == 2
    assert "not allowed in a config file" in done.err


def test_harmless_settings_are_accepted_in_a_config_file(attacked: Command) -> None:
    folder = attacked.folder / "given" / "experiment"
    folder.mkdir(parents=True)
    (folder / "good.yaml").write_text(
        "# @package _global_\nhydra:\n  output_subdir: hydra_files\n"
        "  run:\n    dir: outputs/kept/${now:%Y-%m-%d}/${hydra.job.name}\n"
        "tracking:\n  uri: sqlite:///outputs/kept/mlflow.db\n  artifacts: outputs/kept/artifacts\n"
    )
    done = attacked("--config-dir", "given", "experiment=good", "steps=2", "hydra/job_logging=default")
    assert done.code == 0, done.err
    kept = [path.name for path in (attacked.folder / "outputs" / "kept").rglob("*")]
    assert {"hydra_files", "mlflow.db", "runner.log"} <= set(kept)


def test_refused_settings_are_accepted_on_the_command_line(attacked: Command) -> None:
    done = attacked("hydra.output_subdir=hydra_files", "hydra.run.dir=runs", "steps=2", "tracking=off")
    assert done.code == 0, done.err
    assert (attacked.folder / "runs" / "hydra_files" / "config.yaml").is_file()


@pytest.mark.parametrize("arguments", [["steps=2"], ["-m", "lr=0.1,0.2", "steps=2"], ["--help"]])
def test_plugins_of_the_working_directory_are_not_imported(attacked: Command, arguments: list[str]) -> None:
    plugins = attacked.folder / "hydra_plugins" / "evil_plugin"
    plugins.mkdir(parents=True)
    (plugins / "__init__.py").write_text(EVIL)
    done = attacked(*arguments, "tracking=off")
    assert done.code == 0, done.err
    assert not ran(attacked, done)


def test_an_alias_bomb_is_refused_quickly_and_in_little_memory(attacked: Command) -> None:
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    folder = attacked.folder / "given" / "experiment"
    folder.mkdir(parents=True)
    bomb = "\n".join(f"  {line}" for line in lines)
    (folder / "bomb.yaml").write_text(f"# @package _global_\ntags:\n{bomb}\n")
    started = time.monotonic()
    done = attacked("--config-dir", "given", "experiment=bomb", "steps=2")
    assert time.monotonic() - started < 10
    assert done.code == 2
    assert "expected at most 20,000 values" in done.err
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_500_000  # of all children so far


@pytest.mark.parametrize("first", ["xxxxxxxxxx", "[1,1,1,1,1,1,1,1,1,1]"])
def test_interpolations_that_multiply_are_refused(attacked: Command, first: str) -> None:
    folder = attacked.folder / "given" / "experiment"
    folder.mkdir(parents=True)
    earlier = [f"${{tags.a{number - 1}}}" for number in range(1, 9)]
    refers = [f"'{text * 10}'" if first.startswith("x") else f"[{','.join([repr(text)] * 10)}]" for text in earlier]
    lines = [f"  a{number}: {text}" for number, text in enumerate([first, *refers])]
    (folder / "bomb.yaml").write_text("# @package _global_\ntags:\n" + "\n".join(lines))
    done = attacked("--config-dir", "given", "experiment=bomb")
    assert done.code == 2
    assert "expected at most 1,000 interpolations" in done.err


def test_yaml_within_an_interpolation_is_bounded(attacked: Command) -> None:
    folder = attacked.folder / "given" / "experiment"
    folder.mkdir(parents=True)
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (folder / "bomb.yaml").write_text(
        f"# @package _global_\ntags:\n  all: \"${{oc.create:'{{{', '.join(lines)}}}'}}\"\n"
    )
    done = attacked("--config-dir", "given", "experiment=bomb", "steps=2", "tracking=off")
    assert done.code == 2
    assert "expected at most 20,000 values" in done.err


def test_interpolations_across_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.config.interpolation.MOST_INTERPOLATIONS", 50)
    folder = tmp_path / "experiment"
    folder.mkdir()
    refers = [f"'{f'${{tags.a{number - 1}}}' * 10}'" for number in range(1, 12)]
    lines = [f"  a{number}: {text}" for number, text in enumerate(["xxxxxxxxxx", *refers])]
    (folder / "bomb.yaml").write_text("# @package _global_\ntags:\n" + "\n".join(lines))
    (folder / "fuse.yaml").write_text("# @package _global_\ndefaults: [bomb, _self_]\ntags:\n  a11: {b: 1}\n")
    with pytest.raises(UserError, match="expected at most 50 interpolations"):
        compose([f"hydra.searchpath=[file://{tmp_path}]", "experiment=fuse"])
