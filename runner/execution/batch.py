"""Executing a batch: descend, show, and append to the record what happens."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from runner.config.schema import Config
from runner.engine.batches import Member
from runner.engine.descent import Block
from runner.engine.diagnostics import Diagnostics
from runner.engine.problem import Batch, check_batch, nan_start, prepare, starts_with_nan
from runner.engine.progress import Descent, Passage
from runner.engine.result import Outcome, Result
from runner.execution.metrics import final_metrics, point_metrics, points_of, start_metrics
from runner.execution.trajectory import Trajectory
from runner.execution.weights import WEIGHTS, weights_file
from runner.messages.errors import RunnerError
from runner.messages.redaction import shown_tree
from runner.process import signals
from runner.process.tracebacks import told
from runner.tensors.device import Hardware, choose_device, set_threads
from runner.tracking.journal import Artifact, Begin, End, now_ms
from runner.tracking.provenance import config_yaml, described, params_of, tags_of
from runner.tracking.tracker import Tracker


class View(Protocol):
    """What shows people how a batch goes."""

    def start(self, hardware: Hardware, batch: Batch) -> None:
        """Show what starts, and on what."""

    def progress(self, descent: Descent) -> None:
        """Show how far it has come."""

    def stop(self) -> None:
        """Show no more progress."""


@dataclass(frozen=True)
class Job:
    """A run to execute.

    Attributes:
        run: our id of it.
        tags: of the run, beside the config's own.
        recorded: the last step that is recorded already, where the run was begun in a batch that failed; else -1.
        keeps_weights: whether its weights are recorded as a file.
    """

    member: Member
    run: str
    tags: dict[str, str] = field(default_factory=dict)
    recorded: int = -1
    keeps_weights: bool = False


class BatchError(Exception):
    """A batch of several jobs raised an error, which may be that of one of them; those that ended did so.

    Attributes:
        ended: the results of the jobs that had ended, by index.
        recorded: the last recorded step of each other job, by index.
    """

    def __init__(self, ended: dict[int, Result], recorded: dict[int, int]) -> None:
        super().__init__("a batch failed")
        self.ended = ended
        self.recorded = recorded


def execute(jobs: Sequence[Job], tracker: Tracker, view: View, trajectory: Trajectory | None = None) -> list[Result]:
    """Descend with jobs of one kind, together, and return their results.

    A job of a sweep that starts where it is NaN has diverged at step 0; a run of its own is a mistake then.
    What fails while it runs is recorded as FAILED where it is alone.

    Args:
        jobs: what to run.
        tracker: where it is recorded.
        view: where it is shown.
        trajectory: keeps the first run's recorded steps.

    Raises:
        UserError: a config does not fit this machine or its objective; nothing was appended.
        BatchError: one of several jobs failed, no telling which.
    """
    members = [job.member for job in jobs]
    config = members[0].config
    hardware = Hardware(choose_device(config.device), *set_threads(config.threads, config.interop_threads))
    batch = prepare(members)
    if config.parent_run is None:
        _check_start(batch)
    view.start(hardware, batch)
    recording = Recording(jobs, tracker, batch.lr_varies, trajectory)
    recording.begin(hardware, batch.problem.weight[: len(jobs)])
    descent, diagnostics = Descent(batch), Diagnostics(members, batch.lr_varies)

    def result(run: int) -> Result:
        found = descent.result(run)
        remarks = (*found.remarks, *diagnostics.remarks(run))
        return replace(found, measured=diagnostics.last(run), remarks=remarks)

    try:
        nan = starts_with_nan(batch)
        descent.end_at_start(nan)
        recording.end({run: result(run) for run in nan})
        for passage in descent.blocks():
            recording.block(passage, diagnostics)
            recording.end({run: result(run) for run in passage.endings})
            view.progress(descent)
            tracker.check()
            signals.check()
    except BaseException as error:
        if len(jobs) > 1 and isinstance(error, Exception) and not isinstance(error, RunnerError):
            ended = {run: result(run) for run in descent.endings}
            raise BatchError(ended, {run: recording.recorded[run] for run in descent.going}) from error
        unfinished = {run: replace(result(run), outcome=_outcome_of(error)) for run in descent.going}
        recording.end(unfinished, reason=told(error))
        view.stop()
        raise
    return [result(run) for run in range(len(jobs))]


def _check_start(batch: Batch) -> None:
    """Find what would fail at the first step of a run of its own.

    Raises:
        UserError: the loss or its gradient cannot be computed at the start, or is NaN there.
    """
    check_batch(batch)
    for run, what in starts_with_nan(batch).items():
        raise nan_start(batch.members[run], what)


def _outcome_of(error: BaseException) -> Outcome:
    return Outcome.KILLED if isinstance(error, KeyboardInterrupt | SystemExit) else Outcome.FAILED


class Recording:
    """Appends the runs of a batch to the journal.

    Attributes:
        recorded: the last recorded step of each run.
    """

    def __init__(self, jobs: Sequence[Job], tracker: Tracker, lr_varies: bool, trajectory: Trajectory | None) -> None:
        self.recorded = [job.recorded for job in jobs]
        self._jobs = jobs
        self._tracker = tracker
        self._lr_varies = lr_varies
        self._trajectory = trajectory
        self._since = now_ms()  # when the steps that are being made began

    def begin(self, hardware: Hardware, weight: Tensor) -> None:
        """Append who the runs are, their configs, and step 0, for weights `(runs, dim)`."""
        if self._trajectory is not None:
            self._trajectory.start(weight[0])
        if not self._is_tracked:
            return
        now = now_ms()
        tags = {
            "version.torch": torch.__version__,
            "device": str(hardware.device),
            "device.threads": str(hardware.threads),
            "device.vectors": torch.backends.cpu.get_cpu_capability(),
        }
        new = [index for index, job in enumerate(self._jobs) if job.recorded < 0]
        for index in new:
            self._begin(self._jobs[index], tags, now)
            self.recorded[index] = 0
        if new:
            self._tracker.append(start_metrics([self._jobs[index].run for index in new], weight[new], now))

    @property
    def _is_tracked(self) -> bool:
        return self._jobs[0].member.config.tracking.experiment is not None

    def _begin(self, job: Job, tags: dict[str, str], now: int) -> None:
        config = job.member.config
        assert config.tracking.experiment is not None
        self._tracker.append(
            Begin(
                job.run,
                name_of(config),
                config.tracking.experiment,
                now,
                parent=config.parent_run,
                params=params_of(config),
                tags=tags_of(config) | tags | job.tags,
            )
        )
        if config.parent_run is None:  # the children of a sweep would make a folder each
            self._tracker.append(Artifact(job.run, "config.yaml", config_yaml(config).encode()))

    def block(self, passage: Passage, diagnostics: Diagnostics) -> None:
        """Append the steps of a block that are to be recorded, and what diagnostics measure there."""
        now = now_ms()
        by_steps: dict[tuple[int, int, bool], list[int]] = {}
        for run in passage.going:
            every = self._jobs[run].member.config.recorded_every
            by_steps.setdefault((every, passage.last(run), run in passage.endings), []).append(run)
        for (every, last, is_end), runs in by_steps.items():
            first = max(passage.block.first, min(self._jobs[run].recorded for run in runs) + 1)
            recorded = [*range(first + -first % every, last + 1, every)]
            if is_end and last % every:
                recorded.append(last)
            if recorded:
                self._points(passage.block, recorded, runs, diagnostics, now)
                for run in runs:
                    self.recorded[run] = recorded[-1]
        self._since = now

    def _points(self, block: Block, steps: list[int], runs: list[int], diagnostics: Diagnostics, now: int) -> None:
        points = points_of(block, steps, runs)
        measured = {"lr": points.lr} if self._lr_varies else {}
        if diagnostics.has_any:
            measured |= diagnostics.measure(runs, points.weight)
        if self._is_tracked:
            self._tracker.append(
                point_metrics([self._jobs[run].run for run in runs], points, measured, now, self._since)
            )
        if self._trajectory is not None:
            self._trajectory.append(points, measured)

    def end(self, results: dict[int, Result], reason: str | None = None) -> None:
        """Append how runs ended."""
        if not self._is_tracked:
            return
        now = now_ms()
        for run, result in results.items():
            if self._jobs[run].keeps_weights:
                self._tracker.append(Artifact(self._jobs[run].run, WEIGHTS, weights_file(result)))
            self._tracker.append(_end_of(self._jobs[run], result, now, reason))


def _end_of(job: Job, result: Result, now: int, reason: str | None) -> End:
    tags = {"runner.outcome": result.sentence}
    if result.divergence is not None:
        remark = "" if result.remark is None else f": {result.remark}"
        tags |= {"diverged": "true", "diverged_at_step": str(result.steps)}
        tags |= described(job.member.config, f"Diverged at step {result.steps:,}{remark}.")
    if result.still_since is not None:
        tags["still_since_step"] = str(result.still_since)
    if result.remark is not None:
        tags["runner.remark"] = result.remark
    if reason is not None:
        tags["runner.reason"] = reason
    return End(job.run, result.outcome.status, now, result.steps, final_metrics(result), tags)


def name_of(config: Config) -> str:
    """Return the run's name: the one given, or one made of what is run."""
    if config.name is not None:
        name: str = shown_tree(config.name)
        return name
    return f"{config.objective['name']} {config.optimizer['name']} lr={config.lr:g} steps={config.steps}"
