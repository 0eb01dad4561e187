"""The parent run of a sweep in MLflow; the runs of the jobs are its children."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runner.config.schema import Config
from runner.execution.record_files import files_of_sweep
from runner.messages.redaction import shown_override, shown_tree
from runner.sweeps.job import by_key
from runner.sweeps.outcome import JobResult, best_of, counts, ranks
from runner.sweeps.seeds import SEEDS, seeds_csv, spreads_of
from runner.sweeps.shown import shown_of_sweep
from runner.tracking import provenance
from runner.tracking.journal import Artifact, Begin, End, Metrics, now_ms
from runner.tracking.processes import OWNER, RESUMES
from runner.tracking.run_files import SweepJob
from runner.tracking.tracker import Tracker

RANK = "rank"


@dataclass(frozen=True)
class ParentRun:
    """The parent run: it has the config of the first job, and the overrides of the sweep as its params.

    Attributes:
        texts: the overrides of the sweep as they were written.
        fingerprint: by which `resume` finds the sweep.
    """

    config: Config
    texts: Sequence[str]
    fingerprint: str

    @property
    def experiment(self) -> str | None:
        """The MLflow experiment; None when the sweep is not tracked."""
        return self.config.tracking.experiment

    def begin(
        self, tracker: Tracker, run: str, jobs: Sequence[SweepJob], is_new: bool = True, resumes: bool = False
    ) -> None:
        """Record that the sweep begins.

        Args:
            tracker: takes the journal entries.
            run: the runner's id of the parent run.
            jobs: the jobs to run, whose configs are recorded as one file.
            is_new: false where an earlier sweep is continued.
            resumes: whether `resume` was given.
        """
        if self.experiment is None:
            return
        record = files_of_sweep(self.config, jobs, None if is_new else now_ms())
        texts = [shown_override(text) for text in self.texts]
        params = by_key(texts)
        name = shown_tree(self.config.name) or " ".join(texts)
        own = {"runner.kind": "sweep", "runner.fingerprint": self.fingerprint, OWNER: tracker.owner}
        own |= {RESUMES: "true"} if resumes else {}
        tags = provenance.tags_of(self.config) | own | record.tags
        tracker.append(Begin(run, name, self.experiment, now_ms(), params=params, tags=tags, is_new=is_new))
        for path, content in record.files.items():
            tracker.append(Artifact(run, path, content))

    def add(self, tracker: Tracker, run: str, jobs: Sequence[SweepJob]) -> None:
        """Record the configs of further jobs, as those of a sweep that is resumed."""
        if self.experiment is None:
            return
        for path, content in files_of_sweep(self.config, jobs, now_ms()).files.items():
            tracker.append(Artifact(run, path, content))

    def end(self, tracker: Tracker, run: str, status: str, results: Sequence[JobResult]) -> None:
        """Record how the sweep ended: the ranks of its jobs, the number of jobs with each status, and the best job."""
        if self.experiment is None:
            return
        for entry in rank_entries(ranks(results), now_ms()):
            tracker.append(entry)
        spreads = spreads_of(results)
        if spreads:
            tracker.append(Artifact(run, SEEDS, seeds_csv(spreads)))
        diverged = sum(one.has_diverged for one in results)
        tags = job_tags(counts(results) | {"diverged_jobs": diverged})
        metrics: dict[str, float] = {}
        references: dict[str, str] = {}
        best = best_of(results)
        if best is not None and best.loss is not None:
            metrics["best_loss"] = best.loss
            references = {"best.run": best.run}
            tags |= {f"best.{key}": value for key, value in best.job.varied.items()}
        tracker.append(shown_of_sweep(self.config, self.texts, run, results, spreads))
        tracker.append(End(run, status, now_ms(), results=metrics, tags=tags, references=references))


def job_tags(numbers: Mapping[str, float]) -> dict[str, str]:
    """Return numbers of jobs as tags of the parent run: as metrics, MLflow would draw a chart of each."""
    return {key: f"{number:.0f}" for key, number in numbers.items()}


def rank_entries(ranks: Mapping[JobResult, int], time_ms: int) -> Iterator[Metrics]:
    """Yield the ranks of all jobs as a metric, by which MLflow shows the best first: it knows no order of equal losses.

    Jobs that an earlier start of the sweep ran are ranked again among all.
    """
    for are_recorded in (False, True):
        ranked = {one.run: rank for one, rank in ranks.items() if (one.status == "SKIPPED") is are_recorded}
        if ranked:
            values = struct.pack(f"<{len(ranked)}d", *ranked.values())
            yield Metrics(list(ranked), [RANK], [0], time_ms, values, are_recorded=are_recorded)
