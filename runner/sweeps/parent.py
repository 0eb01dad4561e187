"""The parent run of a sweep in MLflow; the runs of the jobs are its children."""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from runner.config.schema import Config
from runner.execution.record_files import files_of_sweep
from runner.messages.redaction import shown_override, shown_tree
from runner.sweeps.job import by_key
from runner.sweeps.outcome import JobResult, counts, ranks
from runner.sweeps.plan import Findings, Point
from runner.sweeps.seeds import SEEDS, seeds_csv, spreads_of
from runner.sweeps.shown import shown_of_sweep
from runner.tracking import inheritance, provenance
from runner.tracking.inheritance import CHILDREN, OVERRIDES, OWN_PARAMS, Inherited, is_inherited
from runner.tracking.journal import Artifact, Begin, End, Metrics, now_ms
from runner.tracking.ledger import Ledger
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
        self,
        tracker: Tracker,
        run: str,
        jobs: Sequence[SweepJob],
        ledger: Ledger | None = None,
        resumes: bool = False,
        shared: Mapping[str, str] | None = None,
    ) -> Inherited | None:
        """Record that the sweep begins, and return what its jobs inherit; None if they record everything themselves.

        Args:
            tracker: takes the journal entries.
            run: the runner's id of the parent run.
            jobs: the jobs to run, whose configs are recorded as one file.
            ledger: what is recorded of the earlier sweep that is continued.
            resumes: whether `resume` was given.
            shared: the params in which all jobs of the sweep agree, as far as they are known.
        """
        if self.experiment is None:
            return None
        record = files_of_sweep(self.config, jobs, None if ledger is None else now_ms())
        texts = [shown_override(text) for text in self.texts]
        params = by_key(texts)
        name = shown_tree(self.config.name) or " ".join(texts)
        own = {"runner.kind": "sweep", "runner.fingerprint": self.fingerprint, OWNER: tracker.owner}
        own |= {RESUMES: "true"} if resumes else {}
        tags = provenance.tags_of(self.config) | own | record.tags
        if ledger is None:
            params, tags = self._with_shared(params, tags, shared or {})
            inherited = Inherited.of(params, tags)
        elif (inherited := Inherited.of(ledger.params, ledger.tags)) is not None:
            tags = _resumed_tags(tags, params, ledger, inherited)
        is_new = ledger is None
        tracker.append(Begin(run, name, self.experiment, now_ms(), params=params, tags=tags, is_new=is_new))
        for path, content in record.files.items():
            tracker.append(Artifact(run, path, content))
        return self.left_by(inherited, jobs)

    def _with_shared(
        self, overrides: dict[str, str], tags: dict[str, str], shared: Mapping[str, str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return the params and tags of a new parent run, with those that its jobs do not record themselves."""
        from runner.execution.recording import expected_tags

        if not self._has_shared:
            return overrides, tags
        own = [key for key, text in overrides.items() if shared.get(key) != text]
        about = {CHILDREN: str(self.config.tracking.children), OVERRIDES: " ".join(overrides)} | (
            {OWN_PARAMS: " ".join(own)} if own else {}
        )
        return {**shared, **overrides}, tags | expected_tags(self.config) | about

    @property
    def _has_shared(self) -> bool:
        return self.config.tracking.children not in (None, inheritance.ALL)

    def shared_by(self, configs: Iterable[Config]) -> dict[str, str]:
        """Return the params in which jobs agree; empty where they record them themselves."""
        return inheritance.shared_params(list(configs)) if self._has_shared else {}

    def left_by(self, inherited: Inherited | None, jobs: Sequence[SweepJob]) -> Inherited | None:
        """Return what jobs inherit, knowing which parts of their configs agree with it."""
        if inherited is None:
            return None
        return replace(inherited, same=inheritance.same_roots([job.config for job in jobs], inherited.params))

    def add(self, tracker: Tracker, run: str, jobs: Sequence[SweepJob]) -> None:
        """Record the configs of further jobs, as those of a sweep that is resumed."""
        if self.experiment is None:
            return
        for path, content in files_of_sweep(self.config, jobs, now_ms()).files.items():
            tracker.append(Artifact(run, path, content))

    def add_points(self, tracker: Tracker, run: str, points: Sequence[Point]) -> None:
        """Record values of metrics of the parent run."""
        for point in points if self.experiment is not None else ():
            values = struct.pack(f"<{len(point.values)}d", *point.values.values())
            tracker.append(Metrics([run], list(point.values), [point.step], point.time_ms, values))

    def end(self, tracker: Tracker, run: str, status: str, results: Sequence[JobResult], findings: Findings) -> None:
        """Record how the sweep ended: the ranks of its jobs, the number of jobs with each status, and the best job."""
        if self.experiment is None:
            return
        self.add_points(tracker, run, findings.points)
        for entry in rank_entries(ranks(results), now_ms()):
            tracker.append(entry)
        spreads = spreads_of(results)
        if spreads:
            tracker.append(Artifact(run, SEEDS, seeds_csv(spreads)))
        diverged = sum(one.has_diverged for one in results)
        tags = job_tags(counts(results) | {"diverged_jobs": diverged})
        metrics: dict[str, float] = {}
        references: dict[str, str] = {}
        best = findings.best
        if best is not None and best.loss is not None:
            metrics["best_loss"] = best.loss
            references = {"best.run": best.run}
            tags |= {f"best.{key}": value for key, value in best.job.varied.items()}
        tags |= findings.tags
        texts = [*findings.overrides, *self.texts]
        tracker.append(shown_of_sweep(self.config, texts, run, results, spreads, findings.sentences))
        tracker.append(End(run, status, now_ms(), results=metrics, tags=tags, references=references))


def _resumed_tags(
    tags: Mapping[str, str], overrides: Mapping[str, str], ledger: Ledger, inherited: Inherited
) -> dict[str, str]:
    """Return the tags to set on a parent run that is continued: none that its recorded jobs inherit."""
    new = [key for key in overrides if key not in ledger.params]
    about = {key: [*ledger.tags.get(key, "").split(), *new] for key in (OVERRIDES, OWN_PARAMS)}
    kept = {key: text for key, text in tags.items() if not (key in inherited.tags or is_inherited(key))}
    return kept | {key: " ".join(keys) for key, keys in about.items() if keys}


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
