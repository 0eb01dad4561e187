"""The files of a report: a page, and figures."""

from collections.abc import Iterator, Sequence

from runner.report.figures import Draw, drawn
from runner.report.from_record import parts_of
from runner.report.page import Part, SweepPart, page_of
from runner.report.run_figures import run_figures
from runner.report.sweep_figures import compared_figure, sweep_figures


def files_of(run_id: str, uri: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a run or a sweep by name: figures, and the page of a sweep."""
    (part,) = parts_of([run_id], uri)
    if isinstance(part, SweepPart) and not len(part.analysis.runs):
        return
    for name, draw in _figures(part):
        yield f"{name}.svg", drawn(draw)
    if isinstance(part, SweepPart):
        yield "report.html", page_of([part]).encode()


def _figures(part: Part) -> Iterator[tuple[str, Draw]]:
    if isinstance(part, SweepPart):
        yield from sweep_figures(part.title, part.analysis)
    elif part.trajectory is not None:
        yield from run_figures(part.title, part.trajectory)


def picture_of(parts: Sequence[Part], kind: str) -> bytes | None:
    """Return one figure of some runs and sweeps, as for a slide; None where they have nothing to draw."""
    if len(parts) == 1:
        draw = next((draw for _, draw in _figures(parts[0])), None)
        return None if draw is None else drawn(draw, kind)
    named = [(part.title, part.analysis.runs if isinstance(part, SweepPart) else part.runs) for part in parts]
    has_any = any(len(runs.order) and len(runs.steps) for _, runs in named)
    return drawn(compared_figure([one for one in named if len(one[1].steps)]), kind) if has_any else None
