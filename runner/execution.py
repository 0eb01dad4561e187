"""Executing a run: descend, show, and append to the record what happens."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runner.config import Config
from runner.console import Console
from runner.descent import Block, descend
from runner.device import Hardware, choose_device, set_threads
from runner.diagnostics import Diagnostics
from runner.metrics import block_metrics, start_metrics
from runner.problem import Run, check_start, prepare
from runner.result import Outcome, Result
from runner.tracking.journal import Artifact, Begin, End, now_ms
from runner.tracking.provenance import config_yaml, params_of, tags_of
from runner.tracking.tracker import Tracker

PROGRESS_LINES = 10


def execute(config: Config, tracker: Tracker, console: Console) -> tuple[str, Result]:
    """Descend as the config says, and return our id of the run with its result.

    Raises:
        UserError: the config does not fit this machine or its objective; nothing was appended.
    """
    device = choose_device(config.device)
    hardware = Hardware(device, *set_threads(config.threads, config.interop_threads))
    run = prepare(config, device)
    check_start(run)
    console.start(hardware, run.problem.weight[0].tolist())
    recording = Recording(config, tracker, uuid.uuid4().hex)
    recording.begin(hardware, run.problem.weight[:1])
    descent, diagnostics = Descent(config, run), Diagnostics(config, run.objective)
    try:
        for block in descent.blocks():
            recording.block(block, descent.result, diagnostics)
            console.progress(descent.result)
            tracker.check()
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


class Descent:
    """The descent of one run, with where it stands."""

    def __init__(self, config: Config, run: Run) -> None:
        self._steps = config.steps
        self._run = run
        # A run that no step ends before its time is one that was stopped.
        self.result = Result(
            outcome=Outcome.KILLED,
            objective=run.objective,
            steps=0,
            seconds=0.0,
            weight=run.problem.weight[0],
            gradient=torch.full_like(run.problem.weight[0], torch.nan),
            loss=torch.nan,
        )

    def blocks(self) -> Iterator[Block]:
        """Yield the steps, until they are done or one diverges."""
        started = time.perf_counter()
        longest = -(-self._steps // PROGRESS_LINES)
        for block in descend(self._run.problem, self._steps, longest):
            diverged_at = block.diverged_at()
            if diverged_at is not None:
                block = block.until(diverged_at)
            outcome = Outcome.DIVERGED if diverged_at is not None else self._outcome_at(block.last)
            self.result = replace(
                self.result,
                outcome=outcome,
                steps=block.last,
                seconds=time.perf_counter() - started,
                weight=block.weight[-1, 0],
                gradient=block.gradient[-1, 0],
                loss=float(block.loss[-1, 0]),
            )
            yield block
            if outcome is Outcome.DIVERGED:
                return

    def _outcome_at(self, step: int) -> Outcome:
        return Outcome.COMPLETED if step == self._steps else Outcome.KILLED


@dataclass(frozen=True)
class Recording:
    """Appends one run to the journal."""

    config: Config
    tracker: Tracker
    run: str

    def begin(self, hardware: Hardware, weight: Tensor) -> None:
        """Append who the run is, its config, and step 0."""
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
        is_end = result.outcome in (Outcome.COMPLETED, Outcome.DIVERGED)
        recorded = [s for s in range(block.first, block.last + 1) if s % every == 0 or (is_end and s == block.last)]
        if recorded:
            weight = block.weight[[step - block.first for step in recorded], 0]
            measured = {key: values[:, None] for key, values in diagnostics.measure(weight).items()}
            self.tracker.append(block_metrics([self.run], block, recorded, now_ms(), measured))

    def end(self, result: Result, reason: str | None = None) -> None:
        """Append how the run ended."""
        tags = {"runner.outcome": result.outcome.value}
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
