"""The page of recorded runs: one part for each sweep or single run, and a comparison where there are several."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np

from runner.report.analysis import Analysis, Border
from runner.report.document import Document, document, escaped, shipped
from runner.report.figures import drawn
from runner.report.run_figures import Trajectory, run_figures
from runner.report.runs import Floats, Outcome, Runs
from runner.report.scale import scale_of
from runner.report.search import Search, search_data, search_markup
from runner.report.sweep_data import MOST_FIGURES, curve_of, sweep_data

LIBRARY = "plotly-cartesian.min.js.gz"
IN_TABLE = 20
NAMED = 6
KEYS = (
    "Each figure takes the keyboard: <kbd>Tab</kbd> to it, <kbd>←</kbd> <kbd>→</kbd> choose a run, <kbd>+</kbd> "
    "<kbd>-</kbd> zoom, <kbd>0</kbd> the whole, <kbd>1</kbd> to <kbd>9</kbd> hide and show what the legend names."
)
MARKS = {
    Outcome.FELL: "○",
    Outcome.UNCHANGED: "□",
    Outcome.GREW: "△",
    Outcome.DIVERGED: "✕",
    Outcome.UNKNOWN: "?",
}
# The figures of a run that its page shows as pictures; the others it draws itself.
PICTURES = {"path": "Path of the weight"}


@dataclass(frozen=True, eq=False)
class SweepPart:
    """A sweep on a page.

    Attributes:
        title: its name.
        id: in MLflow.
        command: that repeats it, where it is known.
        search: what it says of a search.
    """

    title: str
    id: str
    analysis: Analysis
    command: str = ""
    search: Search | None = None


@dataclass(frozen=True, eq=False)
class Line:
    """Values over steps, with a name."""

    name: str
    steps: Floats
    values: Floats


@dataclass(frozen=True, eq=False)
class RunPart:
    """A single run on a page.

    Attributes:
        title: its name.
        id: in MLflow.
        runs: the run, as the only one.
        facts: what is shown of it in a table.
        lines: for each figure over steps, its title and lines.
        trajectory: its recorded steps.
    """

    title: str
    id: str
    runs: Runs
    facts: Mapping[str, str] = field(default_factory=dict)
    lines: Sequence[tuple[str, Sequence[Line]]] = ()
    command: str = ""
    trajectory: Trajectory | None = None


Part = SweepPart | RunPart


def page_of(parts: Sequence[Part]) -> str:
    """Return the page of some sweeps and runs as HTML."""
    bodies, data = [], []
    for index, part in enumerate(parts):
        made = _sweep(part, f"part-{index}") if isinstance(part, SweepPart) else _run(part, f"part-{index}")
        bodies.append(made[0])
        data.append(made[1])
    title = parts[0].title if len(parts) == 1 else f"{len(parts)} compared"
    comparison, lines = _comparison(parts) if len(parts) > 1 else ("", None)
    body = f"<main>{comparison}{''.join(bodies)}<p class='screen'><small>{KEYS}</small></p></main>"
    library = resources.files("runner.report").joinpath(LIBRARY).read_bytes()
    content = {"parts": data, "comparison": lines}
    return document(Document(title, body, shipped("page.js"), content, shipped("page.css"), library))


def _sweep(part: SweepPart, key: str) -> tuple[str, dict[str, Any]]:
    analysis = part.analysis
    runs = analysis.runs
    if not len(runs):
        return f"<h1>{escaped(part.title)}</h1><p>The sweep has no runs.</p>", {}
    data = sweep_data(analysis)
    drawn = len(data["drawn"]["names"])
    points = _points_figures(runs, key)
    sections = [
        f"<h1>{escaped(part.title)}</h1>",
        f"<p class='answer'>{answer(analysis)}</p>",
        *(f"<p><b>lr {one.lr:.4g}</b>: {escaped(one.rule)}.</p>" for one in analysis.suggestions),
        f"<p>{_counts(analysis)}</p>",
        "" if part.search is None else search_markup(part.search, key),
        _said_of_thinning(len(runs), drawn, data),
        f"<p id='{key}-chosen' class='chosen' aria-live='polite'>Point at a run, or choose one by keys.</p>",
        "<div class='two'>",
        *points[:MOST_FIGURES],
        _curves_figure(data, key),
        *_settings_figures(runs, data, key),
        "</div>",
        _more_figures(points[MOST_FIGURES:], key),
        best_table(analysis),
        _seeds_table(analysis),
        _origin(part.id, part.command),
    ]
    searched = {} if part.search is None else {"search": search_data(part.search)}
    return f"<section>{''.join(sections)}</section>", {"sweep": data} | searched


def answer(analysis: Analysis) -> str:
    """Return the answer of a sweep as a sentence or two, as markup."""
    runs = analysis.runs
    best = analysis.best
    if best is None:
        return f"None of the {len(runs):,} runs ended with a finite loss."
    setting = _setting(runs, best)
    loss = f"last loss {runs.final[best]:.6g}"
    if runs.minimum is not None:
        loss += f", {abs(runs.final[best] - runs.minimum):.3g} from the known minimum"
    reached = "" if np.isnan(runs.reached[best]) else f", reached in {_steps(runs.reached[best])}"
    text = f"Best of {len(runs):,}: <b>{escaped(setting)}</b> with {escaped(loss + reached)}."
    if analysis.combinations and np.isfinite(np.median(runs.keys[analysis.combinations[0]])):
        mine = analysis.combinations[0]
        middle = f"with the median last loss {np.median(runs.final[mine]):.6g}."
        text = f"Best over {len(mine)} seeds: <b>{escaped(_setting(runs, mine[0], False))}</b> {middle} {text}"
    border = analysis.border
    return text if border is None else f"{text} {escaped(border_sentence(border))}"


def _setting(runs: Runs, row: int, has_seed: bool = True) -> str:
    """Return what a run had of what varied, or its name where nothing did."""
    columns = runs.varied if has_seed else runs.settings
    texts = [f"{column.name} {column.texts[row]}" for column in columns]
    more = [f"and {len(texts) - NAMED} more"] if len(texts) > NAMED else []
    return ", ".join([*texts[:NAMED], *more]) or runs.names[row]


def border_sentence(border: Border) -> str:
    """Return where the border of stability lies."""
    theory = "" if border.bound is None else f" 2/λ_max is {border.bound:.4g} (median of the runs that fell)."
    if border.failed is None:
        return f"No learning rate grew or diverged.{theory}"
    if border.is_mixed:
        between = (
            f"From lr {border.failed:.4g} on some runs grew or diverged, up to {border.last:.4g} others still fell."
        )
    elif border.fell is None:
        between = f"No run fell below lr {border.failed:.4g}, the smallest that grew or diverged."
    else:
        between = f"Measured border of stability: lr {border.fell:.4g} still fell, {border.failed:.4g} did not."
    return between + theory


def _steps(count: float) -> str:
    return f"{count:,.0f} step{'' if count == 1 else 's'}"


def _whole(number: float) -> str:
    return "" if np.isnan(number) else f"{number:,.0f}"


def _counts(analysis: Analysis) -> str:
    total = len(analysis.runs)
    shares = (
        f"<span class='count'>{MARKS[outcome]} {outcome.value} <b>{count:,}</b></span>"
        f"<span class='bar {outcome.name.lower()}' style='width:{max(60 * count / total, 0.3):.1f}%'></span>"
        for outcome, count in analysis.counts.items()
        if count
    )
    rows = "".join(f"<span class='row' role='listitem'>{share}</span>" for share in shares)
    return f"<span class='counts' role='list' aria-label='Runs by outcome'>{rows}</span>"


def _said_of_thinning(total: int, drawn: int, data: dict[str, Any]) -> str:
    curves = 0 if data["curves"] is None else len(data["curves"]["owner"])
    texts = []
    if drawn < total:
        texts.append(
            f"Drawn are {drawn:,} of {total:,} runs: the best, the worst, the ends of every number, and an even sample."
        )
    if 0 < curves < drawn:
        texts.append(f"{curves:,} of them have their curve here.")
    if not texts:
        return ""
    return f"<p><small>{' '.join(texts)} Counts, table, border and quantiles are of all runs.</small></p>"


def _points_figures(runs: Runs, key: str) -> list[str]:
    """Return a figure for each setting."""
    label = "Last loss against {}; fell, grew and diverged have different symbols"
    return [
        _figure(f"{key}-points-{index}", f"Where each run ended: {column.name}", label.format(column.name))
        for index, column in enumerate(runs.settings)
    ]


def _more_figures(figures: Sequence[str], key: str) -> str:
    """Return the figures that are drawn once they are opened."""
    if not figures:
        return ""
    summary = f"{len(figures)} more setting{'s' if len(figures) > 1 else ''}"
    return f"<details id='{key}-more'><summary>{summary}</summary><div class='two'>{''.join(figures)}</div></details>"


def _curves_figure(data: dict[str, Any], key: str) -> str:
    if data["curves"] is None:
        return "<p>No loss over steps is recorded.</p>"
    return _figure(f"{key}-curves", "How they got there", "Loss over steps of the best, the median and the worst run")


def _settings_figures(runs: Runs, data: dict[str, Any], key: str) -> Iterator[str]:
    if data["grid"] is not None:
        across, up = data["grid"]["across"]["name"], data["grid"]["up"]["name"]
        yield _figure(f"{key}-grid", f"{up} against {across}", f"Last loss for each {up} and {across}")
    elif len(runs.settings) > 1:
        label = "Each run a line across an axis for every setting"
        yield _figure(f"{key}-parallel", "All settings at once", label, "whole")


def _figure(key: str, title: str, label: str, kind: str = "") -> str:
    return (
        f"<figure class='{kind}'><h2>{escaped(title)}</h2>"
        f"<div id='{key}' class='plot' role='group' aria-label='{escaped(label)}'></div></figure>"
    )


def best_table(analysis: Analysis, most: int = IN_TABLE) -> str:
    """Return the table of the best runs, as markup."""
    runs = analysis.runs
    if not len(runs.order):
        return ""
    has_minimum = runs.minimum is not None
    head = ["rank", *(column.name for column in runs.varied), "last loss", *(["to minimum"] if has_minimum else [])]
    head += ["best loss", "steps to reach it", "run"]
    rows = []
    for rank, row in enumerate(runs.order[:most], start=1):
        losses = [f"{runs.final[row]:.9g}"]
        losses += [f"{abs(runs.final[row] - (runs.minimum or 0)):.3g}"] if has_minimum else []
        losses += [f"{runs.best[row]:.9g}", _whole(runs.reached[row])]
        rows.append([str(rank), *(column.texts[row] for column in runs.varied), *losses, runs.ids[row]])
    title = f"The {min(most, len(runs.order))} best" if len(runs.order) > 1 else "The best"
    ties = "ties are broken by the steps to reach the last loss, then by the distance to a known minimum"
    return f"<h2>{title}</h2>{_table(head, rows)}<p><small>By last loss; {ties}.</small></p>"


def _seeds_table(analysis: Analysis) -> str:
    runs = analysis.runs
    if not analysis.combinations:
        return ""
    head = [*(column.name for column in runs.settings), "seeds", "median", "10 %", "90 %", "diverged"]
    rows = []
    for mine in analysis.combinations[:IN_TABLE]:
        finite = runs.final[mine][np.isfinite(runs.keys[mine])]
        values = [f"{value:.6g}" for value in np.quantile(finite, [0.5, 0.1, 0.9])] if len(finite) else ["", "", ""]
        texts = [column.texts[mine[0]] for column in runs.settings]
        rows.append([*texts, str(len(mine)), *values, str(len(mine) - len(finite))])
    return f"<h2>Over seeds</h2>{_table(head, rows)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th scope='col'>{escaped(text)}</th>" for text in head)
    body = "".join(f"<tr>{''.join(f'<td>{escaped(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<div class='wide' tabindex='0'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _origin(run_id: str, command: str) -> str:
    again = f"<pre><code>{escaped(command)}</code></pre>" if command else ""
    return f"{again}<p><small>Recorded in MLflow as run {escaped(run_id)}.</small></p>"


def _run(part: RunPart, key: str) -> tuple[str, dict[str, Any]]:
    figures, over_steps = [], []
    for number, (title, lines) in enumerate(part.lines):
        figures.append(_figure(f"{key}-figure-{number}", title, f"{title} over steps"))
        over_steps.append(_lines(lines, title))
    pictures = (
        f"<figure><h2>{escaped(title)}</h2><img class='picture' alt='{escaped(title)}' "
        f"src='data:image/svg+xml;base64,{base64.b64encode(content).decode()}'></figure>"
        for title, content in _pictures(part)
    )
    facts = "".join(
        f"<tr><th scope='row'>{escaped(name)}</th><td>{escaped(text)}</td></tr>" for name, text in part.facts.items()
    )
    body = (
        f"<section><h1>{escaped(part.title)}</h1><div class='wide'><table class='facts'>{facts}</table></div>"
        f"<div class='two'>{''.join(figures)}{''.join(pictures)}</div>{_origin(part.id, part.command)}</section>"
    )
    return body, {"figures": over_steps}


def _pictures(part: RunPart) -> Iterator[tuple[str, bytes]]:
    """Yield the figures that a page shows as pictures: title and SVG file."""
    if part.trajectory is not None:
        for name, draw in run_figures(part.title, part.trajectory):
            if name in PICTURES:
                yield PICTURES[name], drawn(draw)


def _lines(lines: Sequence[Line], quantity: str) -> dict[str, Any]:
    scale = scale_of(np.concatenate([line.values for line in lines]) if lines else np.zeros(0))
    shown = [
        {
            "name": line.name,
            "x": line.steps.astype(np.float64),
            "y": np.where(np.isnan(line.values), np.nan, scale.placed(line.values)),
        }
        for line in lines
    ]
    return {"lines": shown, "scale": scale.data(quantity)}


def _comparison(parts: Sequence[Part]) -> tuple[str, dict[str, Any] | None]:
    """Return the section that compares several sweeps and runs, and its figure: the best run of each."""
    rows, lines = [], []
    for index, part in enumerate(parts):
        runs = part.analysis.runs if isinstance(part, SweepPart) else part.runs
        best = int(runs.order[0]) if len(runs.order) else None
        if best is not None and len(runs.steps):
            name = f"{part.title}: {runs.names[best]}" if isinstance(part, SweepPart) else part.title
            lines.append(Line(f"{index + 1}. {name}", runs.steps.astype(np.float64), curve_of(runs, best)))
        rows.append([f"{index + 1}", part.title, *_compared(part, runs, best)])
    head = ["", "name", "runs", "best", "last loss", "steps to reach it", "grew or diverged", "suggested lr", "id"]
    body = f"<h1>{len(parts)} compared</h1>{_table(head, rows)}"
    if not lines:
        return f"<section>{body}</section>", None
    minima = {(part.analysis.runs if isinstance(part, SweepPart) else part.runs).minimum for part in parts}
    quantity = "loss" if minima == {None} else "loss, or its distance to the known minimum"
    figure = _figure("comparison", "The best run of each", "Loss over steps of the best run of each")
    return f"<section>{body}{figure}</section>", _lines(lines, quantity)


def _compared(part: Part, runs: Runs, best: int | None) -> list[str]:
    failed = int(runs.ended(Outcome.GREW).sum() + runs.ended(Outcome.DIVERGED).sum())
    suggested = part.analysis.suggestions if isinstance(part, SweepPart) else ()
    lr = f"{suggested[0].lr:.4g}" if suggested else ""
    if best is None:
        return [f"{len(runs):,}", "", "", "", f"{failed:,}", lr, part.id]
    found = [runs.names[best], f"{runs.final[best]:.9g}", _whole(runs.reached[best])]
    return [f"{len(runs):,}", *found, f"{failed:,}", lr, part.id]
