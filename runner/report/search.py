"""What the page of a sweep says of a search: its trials by state, the best one, history, importances, Pareto front."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.report.document import escaped
from runner.report.runs import Flags, Floats, Indices
from runner.report.scale import scale_of

# Metrics of the parent run of a search: by number of trial, the value and the best one so far; importances by key.
VALUE, BEST, IMPORTANCE = "search/value", "search/best", "importance/"
# Tags of it; the number of trials in each state has one that begins with STATES.
METRIC, DIRECTION, SAMPLER, STUDY, REMARK = (
    f"search.{name}" for name in ("metric", "direction", "sampler", "study", "importances")
)
# The overrides of Hydra's own config that make the search, as a shell takes them.
OVERRIDES = "search.overrides"
STATES = "trials_"
BEST_TRIAL, BEST_VALUE = "best.trial", "best.value"
BETWEEN = ", "
MOST_PAIRS = 3
MOST_ON_FRONT = 20
MARKS = {"complete": "○", "pruned": "◇", "failed": "✕", "unfinished": "?"}


@dataclass(frozen=True, eq=False)
class Search:
    """A search on a page.

    Attributes:
        metrics: what was searched by.
        is_upward: for each, whether the highest value is the best.
        sampler: the name of the sampler.
        study: where Optuna has the trials.
        counts: the number of trials by state.
        numbers: of the complete trials, in order.
        values: theirs, `(trials, metrics)`.
        best: what the best trial chose, by key, where there is one.
        best_trial: its number.
        importances: by key, the largest first.
        remark: why there are none.
    """

    metrics: Sequence[str]
    is_upward: Sequence[bool]
    sampler: str
    study: str
    counts: Mapping[str, int]
    numbers: Indices
    values: Floats
    best: Mapping[str, str]
    best_trial: int | None
    importances: Mapping[str, float]
    remark: str

    @property
    def front(self) -> Flags:
        """Which trials are on the Pareto front: no other is as good in all metrics, and better in one."""
        costs = np.where(self.is_upward, -self.values, self.values)
        is_on = np.ones(len(costs), bool)
        for row, cost in enumerate(costs):
            is_on[row] = not ((costs <= cost).all(axis=1) & (costs < cost).any(axis=1)).any()
        return is_on

    @property
    def best_so_far(self) -> Floats:
        """The best value of the first metric up to each trial."""
        fold = np.maximum if self.is_upward[0] else np.minimum
        return np.asarray(fold.accumulate(self.values[:, 0]))


def search_markup(search: Search, key: str) -> str:
    """Return what the page says of a search, with the places of its figures."""
    ways = ("maximized" if upward else "minimized" for upward in search.is_upward)
    by = " and ".join(f"{metric}, {way}" for metric, way in zip(search.metrics, ways, strict=True))
    sections = [
        "<h2>Search</h2>",
        f"<p>Searched by {escaped(by)}; sampler {escaped(search.sampler)}.{_best(search)}</p>",
        _states(search),
        "<div class='two'>",
        *(_figure(f"{key}-{name}", title, label) for name, title, label in _figures(search)),
        "</div>",
        "" if search.importances else f"<p><small>Importances: {escaped(search.remark)}.</small></p>",
        f"<p><small>The trials are in Optuna's study {escaped(search.study)}.</small></p>",
    ]
    return "".join(sections)


def _best(search: Search) -> str:
    if search.best_trial is not None and len(search.numbers):
        chosen = ", ".join(f"{key} {text}" for key, text in search.best.items())
        value = search.values[search.numbers == search.best_trial]
        shown = f" with {search.metrics[0]} {value[0, 0]:.6g}" if len(value) else ""
        return f" Best trial {search.best_trial}: <b>{escaped(chosen)}</b>{escaped(shown)}."
    if len(search.metrics) > 1 and len(search.numbers):
        found = [f"{number}" for number in search.numbers[search.front]]
        more = len(found) - MOST_ON_FRONT
        shown = BETWEEN.join(found[:MOST_ON_FRONT]) + (f" and {more:,} more" if more > 0 else "")
        return f" On the Pareto front: trial{'s' if len(found) > 1 else ''} {shown}."
    return " No trial is complete."


def _states(search: Search) -> str:
    total = sum(search.counts.values())
    rows = "".join(
        f"<span class='row' role='listitem'><span class='count'>{MARKS.get(state, '')} {escaped(state)} "
        f"<b>{count:,}</b></span><span class='bar' style='width:{max(60 * count / total, 0.3):.1f}%'></span></span>"
        for state, count in search.counts.items()
        if count
    )
    return f"<span class='counts' role='list' aria-label='Trials by state'>{rows}</span>"


def _figures(search: Search) -> Iterator[tuple[str, str, str]]:
    """Yield the name, title and label of each figure."""
    if len(search.numbers):
        if len(search.metrics) == 1:
            yield "history", f"{search.metrics[0]} by trial", "Value of each trial, and the best so far"
        for place, (one, other) in enumerate(_pairs(search)):
            title = f"{search.metrics[other]} against {search.metrics[one]}"
            yield f"front-{place}", title, "Trials by two metrics, with the Pareto front marked"
    if search.importances:
        yield "importances", "What mattered for the best trials", "Importance of each key by PED-ANOVA"


def _pairs(search: Search) -> list[tuple[int, int]]:
    return [(0, other) for other in range(1, len(search.metrics))][:MOST_PAIRS]


def _figure(key: str, title: str, label: str) -> str:
    return (
        f"<figure><h2>{escaped(title)}</h2>"
        f"<div id='{key}' class='plot' role='group' aria-label='{escaped(label)}'></div></figure>"
    )


def search_data(search: Search) -> dict[str, Any]:
    """Return what the script needs to draw the figures of a search."""
    scales = [scale_of(column) for column in search.values.T]
    columns = zip(search.metrics, search.values.T, scales, strict=True)
    return {
        "numbers": search.numbers.astype(np.float64),
        "metrics": [
            {"name": name, "values": values, "placed": scale.placed(values), "scale": scale.data(name)}
            for name, values, scale in columns
        ],
        "best": scales[0].placed(search.best_so_far) if len(search.metrics) == 1 else None,
        "front": np.flatnonzero(search.front).astype(np.uint32),
        "pairs": _pairs(search),
        "importances": [{"name": key, "share": share} for key, share in search.importances.items()],
    }
