"""What the command prints of reruns."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from runner.reading.record import RunRecord
from runner.rerun.verification import Verdict

MOST = 10
KEYS = 5


def lines_of_run(verdict: Verdict) -> Iterator[str]:
    """Yield whether a rerun gave the recorded numbers, which differs first, and what else differs."""
    compared = verdict.comparison
    name = f"run {verdict.run.id}"
    if verdict.failure is not None:
        yield f"differs    {name}: failed at its start: {verdict.failure}"
    elif verdict.is_equal:
        yield f"equal      {name}: {_counted(compared.compared)}, to the bit"
    else:
        yield f"differs    {name}: {compared.first}"
        yield f"           {compared.differing:,} of {_counted(compared.compared)} differ, in {_keys(verdict)}"
    if verdict.is_partial:
        yield f"           its steps only: the recorded run ended early ({verdict.run.sentence or verdict.run.outcome})"
    if compared.others:
        yield f"           not compared: {', '.join(compared.others[:KEYS])}, which others have logged"
    yield from _details("config     ", [f"{key}={now}, recorded {was}" for key, (was, now) in verdict.changes.items()])
    yield from _details("also       ", verdict.circumstances)


def lines_of_sweep(sweep: RunRecord, verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield how many jobs of a sweep gave the recorded numbers, and the first that did not."""
    different = [one for one in verdicts if not one.is_equal]
    numbers = sum(one.comparison.compared for one in verdicts)
    jobs = f"{len(verdicts):,} job{'s' if len(verdicts) != 1 else ''}"
    if different:
        yield f"differs    sweep {sweep.id}: {len(different):,} of {jobs}"
    else:
        yield f"equal      sweep {sweep.id}: {jobs}, {_counted(numbers)}, to the bit"
    for one in different[:MOST]:
        what = f"{one.comparison.first}" if one.failure is None else f"failed at its start: {one.failure}"
        yield f"           run {one.run.id} ({one.run.name}): {what}"
    if len(different) > MOST:
        yield f"           and {len(different) - MOST:,} more"
    if partial := sum(one.is_partial for one in verdicts):
        yield f"           of {partial:,} that ended early, the steps only"
    yield from _details(
        "config     ", _shared([f"{k}={b}, recorded {a}" for k, (a, b) in one.changes.items()] for one in verdicts)
    )
    yield from _details("also       ", _shared([one.circumstances for one in verdicts]))


def _counted(numbers: int) -> str:
    return f"{numbers:,} number{'s' if numbers != 1 else ''}"


def _keys(verdict: Verdict) -> str:
    keys = verdict.comparison.keys
    more = f" and {len(keys) - KEYS:,} more" if len(keys) > KEYS else ""
    return ", ".join(keys[:KEYS]) + more


def _details(head: str, texts: Sequence[str]) -> Iterator[str]:
    for index, text in enumerate(texts):
        yield f"{head if index == 0 else ' ' * len(head)}{text}"


def _shared(texts: Iterable[Sequence[str]]) -> list[str]:
    """Return the texts of all jobs, each once, with the number of jobs that have it where that is not all."""
    jobs = [list(one) for one in texts]
    counts = Counter(text for one in jobs for text in one)
    shown = [text if count == len(jobs) else f"{text} ({count:,} jobs)" for text, count in counts.most_common(MOST)]
    return [*shown, *([f"and {len(counts) - MOST:,} more"] if len(counts) > MOST else [])]
