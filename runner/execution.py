"""Executing a run: descend, show, and append to the record what happens."""

import uuid
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner import interruption
from runner.config import Config
from runner.console import Console
from runner.descent import Block
from runner.device import Hardware, choose_device, set_threads
from runner.diagnostics import Diagnostics
from runner.metrics import point_metrics, points_of, start_metrics
from runner.problem import check_start, prepare
from runner.progress import Descent
from runner.result import Outcome, Result
from runner.tracking.journal import Artifact, Begin, End, now_ms
from runner.tracking.provenance import config_yaml, params_of, tags_of
from runner.tracking.tracker import Tracker
from runner.trajectory import Trajectory


def execute(
    config: Config, tracker: Tracker, console: Console, trajectory: Trajectory | None = None
) -> tuple[str, Result]:
    """Descend as the config says, and return our id of the run with its result.

    Raises:
        UserError: the config does not fit this machine or its objective; nothing was appended.
    """
    device = choose_device(config.device)
    hardware = Hardware(device, *set_threads(config.threads, config.interop_threads))
    run = prepare(config, device)
    check_start(run)
    console.start(hardware, run.problem.weight[0].tolist())
    recording = Recording(config, tracker, uuid.uuid4().hex, run.rates.vary, trajectory)
    recording.begin(hardware, run.problem.weight[:1])
    descent, diagnostics = Descent(config, run), Diagnostics(config, run.objective, run.rates.vary)
    try:
        for block in descent.blocks():
            recording.block(block, descent.result, diagnostics)
            console.progress(descent.result)
            tracker.check()
            interruption.check()
    except BaseException as error:
        recording.end(replace(descent.result, outcome=_outcome_of(error)), reason=_reason(error))
        console.stop()
        raise
    result = replace(descent.result, measured=diagnostics.last, remark=diagnostics.remark())
    recording.end(result)
    console.finish(result)
    return recording.run, result


def _outcome_of(error: BaseException) -> Outcome:
    return Outcome.KILLED if isinstance(error, KeyboardInterrupt | SystemExit) else Outcome.FAILED


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


@dataclass(frozen=True)
class Recording:
    """Appends one run to the journal."""

    config: Config
    tracker: Tracker
    run: str
    lr_varies: bool
    trajectory: Trajectory | None

    def begin(self, hardware: Hardware, weight: Tensor) -> None:
        """Append who the run is, its config, and step 0."""
        if self.trajectory is not None:
            self.trajectory.start(weight[0])
        tracking = self.config.tracking
        if tracking.experiment is None:
            return
        now = now_ms()
        tags = tags_of(self.config) | {"version.torch": torch.__version__, "device": str(hardware.device)}
        self.tracker.append(
            Begin(
                self.run,
                name_of(self.config),
                tracking.experiment,
                now,
                parent=self.config.parent_run,
                params=params_of(self.config),
                tags=tags,
            )
        )
        self.tracker.append(Artifact(self.run, "config.yaml", config_yaml(self.config).encode()))
        self.tracker.append(start_metrics([self.run], weight, now))

    def block(self, block: Block, result: Result, diagnostics: Diagnostics) -> None:
        """Append the steps of a block that are to be recorded, and what diagnostics measure there."""
        every = self.config.log_every
        is_end = result.outcome in (Outcome.COMPLETED, Outcome.STOPPED, Outcome.DIVERGED)
        recorded = [s for s in range(block.first, block.last + 1) if s % every == 0 or (is_end and s == block.last)]
        if not recorded:
            return
        points = points_of(block, recorded)
        measured = {"lr": points.lr} if self.lr_varies else {}
        measured |= {key: values[:, None] for key, values in diagnostics.measure(points.weight[:, 0]).items()}
        self.tracker.append(point_metrics([self.run], points, measured, now_ms()))
        if self.trajectory is not None:
            self.trajectory.append(points, measured)

    def end(self, result: Result, reason: str | None = None) -> None:
        """Append how the run ended."""
        tags = {"runner.outcome": result.sentence}
        if result.outcome is Outcome.DIVERGED:
            tags["diverged_at_step"] = str(result.steps)
        if result.remark is not None:
            tags["runner.remark"] = result.remark
        if reason is not None:
            tags["runner.reason"] = reason
        self.tracker.append(End(self.run, result.outcome.status, now_ms(), result.steps, result.metrics(), tags))


def name_of(config: Config) -> str:
    """Return the run's name: the one given, or one made of what is run."""
    if config.name is not None:
        return config.name
    return f"{config.objective['name']} {config.optimizer['name']} lr={config.lr:g} steps={config.steps}"
