"""What a run or a sweep puts into the record so that it can be composed again from there alone."""

from collections.abc import Iterable, Sequence

from runner.config.schema import Config
from runner.execution.sources import first_sources_of
from runner.tracking.run_files import RunFiles, SweepJob, single_run_files, sweep_files


def files_of_run(config: Config, overrides: Sequence[str]) -> RunFiles:
    """Return the files of a single run; none where it is not recorded."""
    if config.tracking.experiment is None:
        return RunFiles()
    return single_run_files(config, overrides, _sources_of([config]))


def files_of_sweep(shared: Config, jobs: Sequence[SweepJob], resumed_ms: int | None = None) -> RunFiles:
    """Return the files of a sweep's parent run, as `sweep_files` does; none where it is not recorded."""
    if shared.tracking.experiment is None:
        return RunFiles()
    return sweep_files(shared, jobs, _sources_of(job.config for job in jobs), resumed_ms)


def _sources_of(configs: Iterable[Config]) -> dict[str, bytes]:
    """Return the user's source that configs name, by file."""
    targets = dict.fromkeys(target for config in configs for target in config.targets)
    found = (source for target in targets for source in first_sources_of(target).values())
    return {source.file: source.content for source in found if source.file is not None}
