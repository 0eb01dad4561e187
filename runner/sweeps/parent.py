"""The run in MLflow that the jobs of a sweep are children of."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.schema import Config
from runner.execution.record_files import files_of_sweep
from runner.messages.redaction import shown_override, shown_tree
from runner.sweeps.job import by_key
from runner.sweeps.outcome import JobDone, best_of, counts
from runner.tracking import provenance
from runner.tracking.journal import Artifact, Begin, End, now_ms
from runner.tracking.processes import OWNER, RESUMES
from runner.tracking.provenance import described
from runner.tracking.run_files import SweepJob
from runner.tracking.tracker import Tracker


@dataclass(frozen=True)
class ParentRun:
    """The parent: its config is the first job's, its params are the sweep's overrides.

    Attributes:
        texts: the sweep as it was written.
        fingerprint: by which the sweep is found again.
    """

    config: Config
    texts: Sequence[str]
    fingerprint: str

    @property
    def experiment(self) -> str | None:
        """The MLflow experiment; None when nothing is tracked."""
        return self.config.tracking.experiment

    def begin(
        self, tracker: Tracker, run: str, jobs: Sequence[SweepJob], is_new: bool = True, resumes: bool = False
    ) -> None:
        """Append that the sweep begins, or that one of before goes on, or would have if there had been one.

        The configs of the `jobs`, which have our ids of their runs, are recorded as one file.
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

    def end(self, tracker: Tracker, run: str, status: str, done: Sequence[JobDone]) -> None:
        """Append how the sweep ended: the numbers of jobs by outcome, and the best of them."""
        if self.experiment is None:
            return
        results = counts(done)
        diverged = sum(one.has_diverged for one in done)
        tags = {"diverged_jobs": str(diverged)}
        if diverged:
            tags |= described(self.config, f"{diverged:,} of {len(done):,} jobs diverged.")
        references: dict[str, str] = {}
        best = best_of(done)
        if best is not None and best.loss is not None:
            results["best_loss"] = best.loss
            references = {"best.run": best.run}
            tags |= {f"best.{key}": value for key, value in best.job.varied.items()}
        tracker.append(End(run, status, now_ms(), results=results, tags=tags, references=references))
