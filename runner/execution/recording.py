"""Journal entries for the runs of a batch: their start, their recorded steps and how they ended."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias

import torch
from torch import Tensor

from runner.config.schema import Config
from runner.engine.batches import DTYPES, Member
from runner.engine.descent import Block
from runner.engine.diagnostics import Diagnostics
from runner.engine.numerics import NUMERICS
from runner.engine.progress import ActiveBlock
from runner.engine.result import Outcome, Result
from runner.execution.landscape import LANDSCAPE, Extent, landscape_file
from runner.execution.metrics import final_metrics, point_metrics, points_of, start_metrics
from runner.execution.saved_weights import SAVED, saved_file
from runner.execution.shown import shown_of_run
from runner.execution.trajectory import Trajectory
from runner.execution.weights import WEIGHTS, weights_file, weights_of
from runner.messages.errors import UserError
from runner.messages.redaction import shown_tree
from runner.objectives.data import digest_of, load
from runner.objectives.initial import start_digest
from runner.tensors.device import Hardware, expected_hardware
from runner.tensors.shapes import Shapes
from runner.tracking.inheritance import SUMMARY, Inherited
from runner.tracking.journal import Artifact, Begin, End, Entry, now_ms
from runner.tracking.provenance import DESCRIPTION, described, params_of, tags_of

MOST_LABELS = 100
# Takes the journal entries of runs, in order.
Sink: TypeAlias = Callable[[Entry], None]


@dataclass(frozen=True)
class PlannedRun:
    """A run that is ready to be executed.

    Attributes:
        member: its config, objective and start.
        run: the runner's id of the run.
        tags: recorded in addition to the tags that every run has.
        recorded: the last step already recorded, where the run began in a batch that failed; -1 for a new run.
        keeps_weights: whether its last and best weights are recorded as a file.
        saves_weights: whether its last weights are recorded by the names of the parameters.
        files: artifacts to record when the run begins, by path.
        command: the command that repeats the run; empty if there is none.
        inherited: what the record of its parent run leaves to it; None if it records everything itself.
    """

    member: Member
    run: str
    tags: dict[str, str] = field(default_factory=dict)
    recorded: int = -1
    keeps_weights: bool = False
    saves_weights: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    command: str = ""
    inherited: Inherited | None = None


class Recording:
    """Sends the journal entries of a batch to a sink.

    Attributes:
        recorded: the last recorded step of each run.
    """

    def __init__(self, runs: Sequence[PlannedRun], sink: Sink, lr_varies: bool, trajectory: Trajectory | None) -> None:
        self.recorded = [run.recorded for run in runs]
        self._take(runs)
        self._sink = sink
        self._lr_varies = lr_varies
        self._trajectory = trajectory
        self._since = now_ms()  # when the current block of steps began
        is_pictured = self._is_tracked and len(runs) == 1 and runs[0].keeps_weights
        self._extent = Extent() if is_pictured else None

    def begin(self, hardware: Hardware, weight: Tensor) -> None:
        """Record the new runs with their configs, and their initial weights `(runs, dim)` as step 0."""
        if self._trajectory is not None:
            self._trajectory.start(weight[0])
        if not self._is_tracked:
            return
        now = now_ms()
        tags = arithmetic_tags(self._runs[0].member.config, hardware)
        new = [index for index, run in enumerate(self._runs) if run.recorded < 0]
        for index in new:
            self._begin(self._runs[index], tags, now)
            self.recorded[index] = 0
        if new and not self._is_summary:
            runs = [self._runs[index].run for index in new]
            self._sink(start_metrics(runs, weight[new], self._shapes, now))

    def of_runs(self, runs: Sequence[int]) -> Self:
        """Return the recording of some runs."""
        found = copy.copy(self)
        found._take([self._runs[run] for run in runs])
        found.recorded = [self.recorded[run] for run in runs]
        return found

    def _take(self, runs: Sequence[PlannedRun]) -> None:
        self._runs = runs
        self._every = [run.member.config.recorded_every for run in runs]
        self._is_alike = len(set(self._every)) == 1

    @property
    def _shapes(self) -> Shapes:
        return self._runs[0].member.objective.shapes

    @property
    def _is_tracked(self) -> bool:
        return self._runs[0].member.config.tracking.experiment is not None

    @property
    def _is_summary(self) -> bool:
        """Whether only the final results of the runs are recorded."""
        config = self._runs[0].member.config
        return config.tracking.children == SUMMARY and config.parent_run is not None

    def _begin(self, run: PlannedRun, tags: dict[str, str], now: int) -> None:
        self._sink(begin_of(run.run, run.member.config, tags | run.tags, now, run.inherited))
        for path, content in run.files.items():
            self._sink(Artifact(run.run, path, content))

    def block(self, passed: ActiveBlock, diagnostics: Diagnostics) -> None:
        """Record the steps of a block that `log_every` selects, with the diagnostics measured at them."""
        if self._extent is not None:
            self._extent.add(passed.block, passed.last(0))
        now = now_ms()
        for (every, last, is_end), indices in self._by_steps(passed).items():
            first = passed.block.first
            steps = [*range(first + -first % every, last + 1, every)]
            if is_end and last % every:
                steps.append(last)
            if not steps:
                continue
            recorded = min(self._runs[index].recorded for index in indices)
            if diagnostics.has_any and (before := [step for step in steps if step <= recorded]):
                diagnostics.measure(indices, points_of(passed.block, before, indices).weight, before)
            steps = [step for step in steps if step > recorded]
            if steps:
                self._points(passed.block, steps, indices, diagnostics, now)
                for index in indices:
                    self.recorded[index] = steps[-1]
        self._since = now

    def _by_steps(self, passed: ActiveBlock) -> dict[tuple[int, int, bool], list[int]]:
        """Return the runs by how far apart their recorded steps are, their last step, and whether they end there."""
        goes_on, last = passed.active, passed.block.last
        if passed.endings:
            goes_on = [index for index in passed.active if index not in passed.endings]
        found: dict[tuple[int, int, bool], list[int]] = {}
        if self._is_alike and goes_on:
            found[self._every[0], last, False] = list(goes_on)
        else:
            for index in goes_on:
                found.setdefault((self._every[index], last, False), []).append(index)
        for index, ending in passed.endings.items():
            found.setdefault((self._every[index], ending.step, True), []).append(index)
        return found

    def _points(self, block: Block, steps: list[int], indices: list[int], diagnostics: Diagnostics, now: int) -> None:
        points = points_of(block, steps, indices)
        measured = {"lr": points.lr} if self._lr_varies else {}
        if diagnostics.has_any:
            measured |= diagnostics.measure(indices, points.weight, steps)
        if self._is_tracked and not self._is_summary:
            runs = [self._runs[index].run for index in indices]
            self._sink(point_metrics(runs, points, self._shapes, measured, now, self._since))
        if self._trajectory is not None:
            self._trajectory.append(points, measured)

    def end(self, results: dict[int, Result], reason: str | None = None) -> None:
        """Record how runs ended, given by index; `reason` says what stopped those that did not end by themselves."""
        if not self._is_tracked:
            return
        now = now_ms()
        for index, result in results.items():
            run = self._runs[index]
            if run.keeps_weights:
                self._sink(Artifact(run.run, WEIGHTS, weights_file(weights_of(result))))
                self._keep_landscape(run, result)
            if run.saves_weights:
                content = saved_file(result.objective.shapes, result.weight)
                self._sink(Artifact(run.run, SAVED, content))
            end = _end_of(run, result, now, reason)
            if run.member.config.parent_run is None:
                self._sink(shown_of_run(run.member.config, run.run, run.command, end))
                end = replace(end, tags={key: value for key, value in end.tags.items() if key != DESCRIPTION})
            self._sink(end)

    def _keep_landscape(self, run: PlannedRun, result: Result) -> None:
        """Record the objective around the path of a run that is alone in its batch."""
        if self._extent is None:
            return
        weights = weights_of(result)
        points = [weights[name] for name in ("final", "best") if name in weights and result.divergence is None]
        seconds = result.seconds / max(result.gradient_evaluations, 1)
        content = landscape_file(run.member, points, self._extent.corners, seconds)
        if content is not None:
            self._sink(Artifact(run.run, LANDSCAPE, content))


def begin_of(
    run: str, config: Config, tags: Mapping[str, str], time_ms: int, inherited: Inherited | None = None
) -> Begin:
    """Return the entry that begins a run.

    Args:
        run: the runner's id of it.
        config: its config.
        tags: those in addition to those that every run has.
        time_ms: when it begins.
        inherited: what the record of its parent run leaves to it.
    """
    assert config.tracking.experiment is not None
    every = {**tags_of(config), **tags}
    params, own = (params_of(config), every) if inherited is None else inherited.left(config, every)
    named = name_of(config), config.tracking.experiment
    return Begin(run, *named, time_ms, parent=config.parent_run, params=params, tags=own)


def expected_tags(config: Config) -> dict[str, str]:
    """Return the tags of what the bits of a run may depend on, were it executed here; empty if it cannot be."""
    try:
        return arithmetic_tags(config, expected_hardware(config.device, config.threads))
    except UserError:
        return {}


def arithmetic_tags(config: Config, hardware: Hardware) -> dict[str, str]:
    """Return the tags of what the bits of a run may depend on besides its config: torch, hardware, numerics, data."""
    return {
        "version.torch": torch.__version__,
        "version.numerics": str(NUMERICS),
        "device": str(hardware.device),
        "device.threads": str(hardware.threads),
        "device.vectors": torch.backends.cpu.get_cpu_capability(),
        **_data_tags(config, hardware),
        **({} if (start := start_digest(config.initial_weight)) is None else {"data.start.sha256": start}),
    }


def _data_tags(config: Config, hardware: Hardware) -> dict[str, str]:
    data = config.objective.data
    if data is None:
        return {}
    labels = load(data, DTYPES[config.dtype], hardware.device).labels
    return {"data.sha256": digest_of(data)} | ({"data.labels": ", ".join(labels[:MOST_LABELS])} if labels else {})


def _end_of(run: PlannedRun, result: Result, now: int, reason: str | None) -> End:
    tags = {"runner.outcome": result.sentence}
    if result.divergence is not None:
        remark = "" if result.remark is None else f": {result.remark}"
        tags |= {"diverged": "true", "diverged_at_step": str(result.steps)}
        tags |= described(run.member.config, f"Diverged at step {result.steps:,}{remark}.")
    if result.outcome is Outcome.PRUNED:
        tags["pruned_at_step"] = str(result.steps)
    if result.still_since is not None:
        tags["still_since_step"] = str(result.still_since)
    if result.remark is not None:
        tags["runner.remark"] = result.remark
    if reason is not None:
        tags["runner.reason"] = reason
    return End(run.run, result.outcome.status, now, result.steps, final_metrics(result), tags)


def name_of(config: Config) -> str:
    """Return the run's name: the configured one, or one made of objective, optimizer, learning rate and steps."""
    if config.name is not None:
        name: str = shown_tree(config.name)
        return name
    return f"{config.objective.name} {config.optimizer.name} lr={config.lr:g} steps={config.steps}"
