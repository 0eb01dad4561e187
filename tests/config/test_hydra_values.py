"""A config can use the values that Hydra sets for a run, and override Hydra's own groups."""

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
import hydra._internal.hydra as hydra_internal
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from runner import run
from runner.composition import composition
from runner.composition.overrides import task_overrides
from runner.messages.errors import UserError
from runner.sweeps.planning import plan_grid
from tests.conftest import Command
from tests.support.compositions import composed

TAKEN = {
    "job": "${hydra:job.name}",
    "dotted": "${hydra.job.name}",
    "cwd": "${hydra:runtime.cwd}",
    "folder": "in ${hydra:runtime.output_dir}",
    "overrides": "${hydra:job.override_dirname}",
    "choice": "${hydra:runtime.choices.optimizer}",
    "year": "${now:%Y}",
    "nested": "${tags.job}-${hydra:job.config_name}",
}
NUMBERED = TAKEN | {"number": "${hydra:job.num}", "id": "no ${hydra.job.id}"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given" / "experiment").mkdir(parents=True)
    return tmp_path / "given"


def write(folder: Path, name: str, settings: dict[str, Any]) -> None:
    text = OmegaConf.to_yaml(OmegaConf.create(settings))
    (folder / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}")


def as_hydra_has_it(overrides: list[str], job: int | None) -> dict[str, Any]:
    """Compose and resolve with Hydra's own means, as its launcher does."""
    folder = str(composition.config_folder())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hydra_internal, "ConfigLoaderImpl", ConfigLoaderImpl)  # other tests may have replaced it
        context = hydra.initialize_config_dir(folder, version_base="1.3", job_name="runner")
    with context:
        cfg = hydra.compose("config", overrides, return_hydra_config=True)
        with open_dict(cfg.hydra):
            cfg.hydra.runtime.output_dir = os.getcwd()
            if job is not None:
                cfg.hydra.job.num, cfg.hydra.job.id = job, str(job)
        HydraConfig.instance().set_config(cfg)
        try:
            tags = OmegaConf.to_container(cfg.tags, resolve=True)
        finally:
            HydraConfig.instance().cfg = None
    assert isinstance(tags, dict)
    return {str(key): value for key, value in tags.items()}


def jobs_of(overrides: list[str]) -> list[Any]:
    loader, master = composition.compose_sweep(overrides)
    return list(plan_grid(task_overrides(master), {}, loader, master)[1])


def test_a_run_gets_the_values_that_hydra_would_set(folder: Path) -> None:
    write(folder, "x", {"tags": TAKEN, "name": "${hydra:job.name} of ${now:%Y}"})
    overrides = [f"hydra.searchpath=[file://{folder}]", "experiment=x", "optimizer=adam", "steps=2"]
    done = run([*overrides, "tracking=off", "quiet=true"])
    assert done.config.tags == as_hydra_has_it([*overrides, "tracking=off", "quiet=true"], job=None)
    assert done.config.name == f"runner of {datetime.now():%Y}"
    assert not HydraConfig.initialized()


def test_each_job_of_a_sweep_gets_its_own_values(folder: Path) -> None:
    write(folder, "x", {"tags": NUMBERED, "name": "job ${hydra:job.num}", "seed": "${hydra:job.num}"})
    shared = [f"hydra.searchpath=[file://{folder}]", "experiment=x", "tracking=off"]
    jobs = jobs_of([*shared, "lr=0.1,0.2", "optimizer=gd,adam"])
    assert [job.config.name for job in jobs] == ["job 0", "job 1", "job 2", "job 3"]
    assert [job.config.seed for job in jobs] == [0, 1, 2, 3]
    for number, job in enumerate(jobs):
        assert job.config.tags == as_hydra_has_it([*shared[:1], *job.overrides], job=number)
    kept = jobs_of([*shared, "lr=0.1,0.2", "optimizer=gd,adam", "where='lr > 0.1'"])
    assert [job.config.name for job in kept] == ["job 0", "job 1"]


def test_a_repeated_job_has_its_seed_in_the_name_that_hydra_gives_it() -> None:
    jobs = jobs_of(
        [
            "repeats=2",
            "tags.is='${hydra:job.override_dirname}'",
            "hydra.job.config.override_dirname.exclude_keys=[tags.is]",
        ]
    )
    assert [job.config.tags["is"] for job in jobs] == ["seed=0", "seed=1"]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["name=${hydra:job.num}"],
            "name=${hydra:job.num}: cannot be resolved (a single run has no job number: add -m)",
        ),
        (
            ["name=${hydra:job.nam}"],
            r"name=${hydra:job.nam}: cannot be resolved (Interpolation key 'hydra.job.nam' not",
        ),
        (
            ["name=${hydra:job.override_dirname}"],
            "name=${hydra:job.override_dirname}: cannot be resolved "
            "(which contains this key; exclude it with hydra.job.config.override_dirname.exclude_keys=[name])",
        ),
    ],
)
def test_a_missing_value_of_hydra_is_reported_in_one_line(overrides: list[str], line: str) -> None:
    with pytest.raises(UserError, match=re.escape(line)):
        composition.compose(overrides)


def test_a_tracking_uri_built_from_hydras_folders_is_still_checked(folder: Path) -> None:
    write(folder, "x", {"tracking": {"artifacts": "${hydra:runtime.cwd}/../elsewhere"}})
    with pytest.raises(UserError, match=r"tracking\.artifacts=.*: not allowed in a config file"):
        composed(folder, "experiment=x")


@pytest.mark.parametrize("launcher", ["batched", "basic"])
@pytest.mark.parametrize("sweeper", ["grid", "basic"])
def test_hydra_settings_and_names_built_from_them_work_together(runner: Command, launcher: str, sweeper: str) -> None:
    done = runner(
        "-m", "lr=0.1,0.2", "steps=2", "tracking=off", "name=r${hydra:job.num}", f"hydra/launcher={launcher}",
        f"hydra/sweeper={sweeper}", "hydra.sweep.dir=many/${now:%Y}", "hydra.sweep.subdir=${hydra.job.num}",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    if launcher == "basic":
        assert [path.name for path in sorted((runner.folder / "many").glob("*/[01]"))] == ["0", "1"]
        assert sweeper == "basic" or all(f"r{number}: loss" in done.out for number in (0, 1))


def test_the_command_line_accepts_interpolations_of_hydras_values(runner: Command) -> None:
    taken = ["tags.at=${hydra:runtime.output_dir}", "name=${hydra.job.name}", "hydra.run.dir=runs/${hydra:job.name}"]
    done = runner(*taken, "steps=2", "tracking=off", "hydra.output_subdir=here")
    assert (done.code, done.err) == (0, "")
    assert (runner.folder / "runs" / "runner" / "here" / "config.yaml").is_file()
    shown = OmegaConf.create(runner("name=${hydra:job.name}", "--cfg", "job", "--resolve").out)
    assert shown.name == "runner"


def hydras_part(folder: Path, *overrides: str) -> DictConfig:
    part = composed(folder, *overrides).hydra
    assert isinstance(part, DictConfig)
    return part


@pytest.mark.parametrize(
    ("group", "option"),
    [("launcher", "basic"), ("sweeper", "basic"), ("job_logging", "stdout"), ("hydra_logging", "default")],
)
def test_an_experiment_overrides_hydras_groups(folder: Path, group: str, option: str) -> None:
    write(folder, "x", {"defaults": [{f"override /hydra/{group}": option}]})
    chosen = hydras_part(folder, "experiment=x")
    assert chosen.runtime.choices[f"hydra/{group}"] == option
    assert chosen[group] == hydras_part(folder, f"hydra/{group}={option}")[group] != hydras_part(folder)[group]
    chosen = hydras_part(folder).runtime.choices[f"hydra/{group}"]
    assert hydras_part(folder, "experiment=x", f"hydra/{group}={chosen}").runtime.choices[f"hydra/{group}"] == chosen
    write(folder, "x", {"defaults": [{f"override /hydra/{group}": f"{option}s"}]})
    with pytest.raises(UserError, match=f"in defaults, '- override /hydra/{group}: {option}s': expected one of"):
        composed(folder, "experiment=x")


def test_a_sweep_over_experiments_refuses_their_sweeper_settings(folder: Path) -> None:
    write(folder, "a", {"hydra": {"sweeper": {"params": {"lr": "0.1,0.2"}}}})
    write(folder, "b", {"defaults": [{"override /hydra/launcher": "basic"}]})
    write(folder, "c", {"steps": 3})
    shared = [f"hydra.searchpath=[file://{folder}]", "tracking=off"]
    with pytest.raises(UserError, match="not allowed in a file that is swept over") as raised:
        jobs_of([*shared, "experiment=a,b,c"])
    end = "not allowed in a file that is swept over, expected on the command line, or a sweep with this file alone"
    assert raised.value.lines == (
        f"hydra.sweeper.params.lr=0.1,0.2: {end} (job experiment=a)",
        f"hydra/launcher=basic: {end} (job experiment=b)",
    )
    assert len(jobs_of([*shared, "experiment=c,seed"])) == 2
    master = composition.compose_sweep([*shared, "experiment=a"])[1]
    assert master.hydra.sweeper.params == {"lr": "0.1,0.2"}


def test_batched_jobs_log_as_configured(runner: Command) -> None:
    (runner.folder / "mine.py").write_text(
        "import logging\ndef loss(w):\n    logging.getLogger('mine').info('called')\n    return (w**2).sum()\n"
    )
    chosen = ["objective=callable", "objective.target=mine:loss", "allow_code=true", "initial_weight=[1]", "steps=2"]
    done = runner("-m", *chosen, "lr=0.1,0.2", "hydra/job_logging=default", "hydra.sweep.dir=logs", "tracking=off")
    assert (done.code, done.err) == (0, "")
    assert "[mine][INFO] - called" in (runner.folder / "logs" / "runner.log").read_text()
    assert "[mine][INFO] - called" in done.out
