"""The jobs that a plan returned at one time, ready to be executed: checked, grouped, without those done before."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.config.schema import Config
from runner.launchers.shard import ShardRun
from runner.messages.errors import FunctionError, UserError
from runner.sweeps.fingerprint import fingerprint
from runner.sweeps.job import Job
from runner.sweeps.mistakes import Mistakes, raise_mistakes
from runner.tracking.ledger import Finished, Left, take
from runner.tracking.run_files import SweepJob

if TYPE_CHECKING:
    from runner.engine.batches import Member


@dataclass(frozen=True)
class Chosen:
    """Jobs, and which of them are to run.

    Attributes:
        runs: the runner's ids of their runs.
        prints: their fingerprints.
        skipped: those that an earlier sweep has done, by index.
        members: the others with their objectives, by index.
        groups: these, grouped into those that can share a batch.
    """

    jobs: Sequence[Job]
    runs: list[str]
    prints: list[str]
    skipped: Mapping[int, Finished]
    members: "Mapping[int, Member]"
    groups: "Sequence[Sequence[Member]]"

    @classmethod
    def of(cls, jobs: Sequence[Job], left: Left, parent: str) -> "Chosen":
        """Return jobs of a parent run, without those that are left of an earlier start.

        Raises:
            UserError: with the mistakes of all jobs.
        """
        prints = [fingerprint(job.config) for job in jobs]
        skipped = take(left, prints)
        members, groups = members_of(jobs, [index for index in range(len(jobs)) if index not in skipped], parent)
        return cls(jobs, [uuid.uuid4().hex for _ in jobs], prints, skipped, members, groups)

    @property
    def to_record(self) -> list[SweepJob]:
        """The jobs to run, for the record of the parent run."""
        return [
            SweepJob(self.runs[index], self.jobs[index].overrides, member.config)
            for index, member in self.members.items()
        ]

    @property
    def skipped_steps(self) -> int:
        """The steps of the jobs that an earlier sweep has done."""
        return sum(self.jobs[index].config.steps for index in self.skipped)

    def shard_run(self, index: int, config: Config) -> ShardRun:
        """Return what a shard holds of a job."""
        tags = {"runner.fingerprint": self.prints[index], **self.jobs[index].tags}
        return ShardRun(config, self.runs[index], tags, keeps_weights=config.keep_weights == "all")


def members_of(
    jobs: Sequence[Job], indices: Sequence[int], parent: str
) -> "tuple[dict[int, Member], list[list[Member]]]":
    """Return jobs with their objectives, by index and in groups; each kind of job is tried out with its first.

    Raises:
        UserError: with the mistakes of all jobs.
    """
    from runner.engine.batches import grouped, member_of
    from runner.engine.problem import check_batch, prepare

    members: dict[int, Member] = {}
    mistakes: Mistakes = []
    for index in indices:
        try:
            members[index] = member_of(_child_config(jobs[index], parent))
        except UserError as error:
            mistakes.append((jobs[index].name, "; ".join(error.lines)))
    index_of = {member: index for index, member in members.items()}
    groups = grouped(members.values())
    for group in groups:
        try:
            check_batch(prepare(group[:1]))
        except FunctionError:  # perhaps a failure of this job alone, which its run will report
            continue
        except UserError as error:
            mistakes += ((jobs[index_of[member]].name, "; ".join(error.lines)) for member in group)
    raise_mistakes(mistakes, len(jobs))
    return members, groups


def _child_config(job: Job, parent: str) -> Config:
    name = job.config.name if job.is_named or not job.varying else job.name
    return replace(job.config, name=name, parent_run=parent)
