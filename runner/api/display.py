"""How results show themselves in notebooks: figures as inline SVG, and a table; every text is escaped."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runner.config.schema import Config
from runner.engine.batches import member_of
from runner.engine.result import Result
from runner.execution.landscape import landscape_file
from runner.execution.trajectory import Trajectory
from runner.messages.html import pairs_html
from runner.tensors.norms import exact_norm

if TYPE_CHECKING:
    from runner.report.figures import Draw
    from runner.report.run_figures import Trajectory as Drawn

# More points of a curve cannot be told apart.
MOST_POINTS = 2000
SIZE = (5.2, 3.4)
NUMBERS = 4


@dataclass(frozen=True)
class ShownRun:
    """A run that has ended, its recorded steps, and its id in MLflow where it is recorded."""

    config: Config
    result: Result
    trajectory: Trajectory
    run_id: str | None


def html_of_run(done: ShownRun) -> str:
    """Return a run as HTML: the path and the loss over steps, and a table of its results."""
    from runner.report.run_figures import run_figures

    figures = run_figures(_title(done), _drawn_steps(done))
    return f"{figures_html(draw for _, draw in figures)}{pairs_html(_title(done), dict(_results(done)))}"


def figures_html(draws: "Iterable[Draw]") -> str:
    """Return figures side by side, as many as fit the width."""
    from runner.report.figures import drawn

    svgs = (drawn(draw, "svg", SIZE).decode() for draw in draws)
    inline = "".join(f"<div>{svg[svg.index('<svg') :]}</div>" for svg in svgs)  # without the prolog of a file
    return f'<div style="display:flex;flex-wrap:wrap;gap:1em">{inline}</div>'


def _title(done: ShownRun) -> str:
    config = done.config
    return f"{config.objective.name}, {config.optimizer.name}, lr {config.lr:g}, {config.steps:,} steps"


def _results(done: ShownRun) -> Iterator[tuple[str, Any]]:
    result = done.result
    yield "outcome", result.sentence
    yield "steps", f"{result.steps:,}"
    yield "loss", result.loss
    if result.loss_error is not None:
        yield "loss above the known minimum", result.loss_error
    if result.distance is not None:
        yield "distance to the known minimum", result.distance
    yield "gradient norm", float(exact_norm(result.gradient))
    yield "weight", _numbers(result)
    if result.best is not None:
        yield "best loss", result.best.loss
        yield "best at step", f"{result.best.step:,}"
    yield from result.measured.items()
    if result.remark is not None:
        yield "remark", result.remark
    if done.run_id is not None:
        yield "run in MLflow", done.run_id


def _numbers(result: Result) -> str:
    shown = ", ".join(f"{value:.6g}" for value in result.weight[:NUMBERS].tolist())
    return shown if len(result.weight) <= NUMBERS else f"{shown}, ... ({len(result.weight):,} numbers)"


def _drawn_steps(done: ShownRun) -> "Drawn":
    """Return the recorded steps as figures take them."""
    from runner.report.run_figures import Trajectory as Drawn

    recorded = done.trajectory
    columns = recorded.columns
    steps = np.array(columns.pop("step"), dtype=np.int64)
    values = {key: np.array(column, dtype=np.float64) for key, column in columns.items()}
    values["gradient_norm"] = exact_norm(recorded.gradient)[:, 0].numpy()
    some = np.unique(np.linspace(0, len(steps) - 1, MOST_POINTS).round().astype(np.int64))
    result = done.result
    best = None if result.best is None or result.divergence is not None else result.best.weight.cpu().numpy()
    few = {key: column[some] for key, column in values.items()}
    marks = {} if best is None else {"best": best.astype(np.float64)}
    return Drawn(steps[some], few, result.minimum, _landscape(done, recorded), marks)


def _landscape(done: ShownRun, recorded: Trajectory) -> Mapping[str, NDArray[Any]] | None:
    """Return the objective around the path; None above two dimensions, or where its function fails."""
    path = recorded.weight.cpu().double().numpy()
    path = path[np.isfinite(path).all(1)]
    if path.shape[1] > 2 or len(path) == 0:
        return None
    result = done.result
    ends = [] if result.divergence is not None else [result.weight.cpu().numpy()]
    seconds = result.seconds / max(result.gradient_evaluations, 1)
    content = landscape_file(member_of(done.config), ends, [path.min(0), path.max(0)], seconds)
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)
