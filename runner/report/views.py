"""Saved views of MLflow's UI: which runs it lists, in which order, with which columns and charts.

MLflow keeps a saved view in a tag of the experiment, and opens it at an address with the view's key. The format is
MLflow's own and not documented; the tests open the views in a browser.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

# Where `python -m runner.ui` serves, unless it is told otherwise.
DEFAULT_PORT = 5000
DEFAULT_UI = f"http://127.0.0.1:{DEFAULT_PORT}"
TAG = "mlflow.sharedViewState."
# The view of the sweeps and single runs of an experiment, without the jobs of sweeps.
LIST = "sweeps-and-runs"
LIST_NAME = "Sweeps and single runs"
# In characters; MLflow takes 20,000.
LARGEST = 18_000
MOST_KEYS = 12
MOST_NAME = 60
WIDTH = 120
CURVES, RESULTS = "Curves of the ten best", "Results of the ten best"
TRAINING = {"workflowType": "machine_learning"}  # else the UI may open for language models
LIST_COLUMNS = (
    *("metrics.`best_loss`", "metrics.`final/loss`", "tags.`jobs`", "tags.`best.lr`"),
    *("params.`objective.name`", "params.`optimizer.name`", "params.`lr`", "params.`steps`", "tags.`runner.outcome`"),
)


@dataclass(frozen=True)
class SweepView:
    """What the view of a sweep shows.

    Attributes:
        name: of the sweep.
        parent: MLflow's id of its parent run.
        varied: the params that vary, the most important first.
        results: the metrics that are shown as columns.
        has_ranks: whether the jobs have the metric `rank`, which orders them; else their last loss does.
        is_upward: whether the highest loss is the best.
        is_positive: whether the losses can be shown on a logarithmic axis.
        at_ms: when the sweep ended, in milliseconds since 1970.
    """

    name: str
    parent: str
    varied: Sequence[str]
    results: Sequence[str]
    has_ranks: bool = True
    is_upward: bool = False
    is_positive: bool = True
    at_ms: int = 0


def ui_of_server(uri: str) -> str | None:
    """Return the address of a tracking server's UI, without the user in the URI; None for a database."""
    return re.sub(r"//[^/]*@", "//", uri).rstrip("/") if uri.startswith(("http:", "https:")) else None


def key_of_sweep(run: str) -> str:
    """Return the key of the view of a sweep, given by MLflow's id or a reference."""
    return f"sweep-{run}"


def address_of_view(experiment: str, key: str, mode: str = "TABLE") -> str:
    """Return the address of a view in MLflow's UI, without the host; `mode` is TABLE or CHART."""
    facets = TRAINING | {"viewStateShareKey": key} | ({} if mode == "TABLE" else {"compareRunsMode": mode})
    return f"#/experiments/{experiment}/runs?{urlencode(facets, safe='{:}')}"


def address_of_run(experiment: str, run_id: str, artifact: str | None = None) -> str:
    """Return the address of a run, or of one of its artifacts, in MLflow's UI, without the host."""
    place = "" if artifact is None else f"/artifacts/{quote(artifact)}"
    return f"#/experiments/{experiment}/runs/{run_id}{place}?{urlencode(TRAINING)}"


def params_varied(keys: Iterable[str], params: Iterable[str]) -> list[str]:
    """Return the params that the varied keys of a sweep set: those of a group where a key chooses its option."""
    known = list(params)
    found: dict[str, None] = {}
    for key in keys:
        same = [name for name in known if name in (key, f"{key}.name")]
        found |= dict.fromkeys(same or [name for name in known if name.startswith(f"{key}.")])
    return list(found)


def view_of_sweep(view: SweepView) -> str:
    """Return the tag's value for the view of a sweep: its jobs, best first."""
    for most in range(min(len(view.varied), MOST_KEYS), -1, -1):
        value = _envelope(_short(view.name), _state_of_sweep(view, view.varied[:most]), view.at_ms)
        if len(value) <= LARGEST:
            break
    return value


def view_of_list(at_ms: int = 0) -> str:
    """Return the tag's value for the view of sweeps and single runs, the latest first."""
    state = _state("tags.`mlflow.parentRunId` IS NULL", "attributes.start_time", False, LIST_COLUMNS, {})
    return _envelope(LIST_NAME, state, at_ms)


def _short(name: str) -> str:
    return name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 3]}..."


def _envelope(name: str, state: Mapping[str, Any], at_ms: int) -> str:
    packed = json.dumps(state, separators=(",", ":"))
    return json.dumps({"name": name, "createdAt": at_ms, "updatedAt": at_ms, "state": packed}, separators=(",", ":"))


def _state_of_sweep(view: SweepView, varied: Sequence[str]) -> dict[str, Any]:
    order, ascending = ("rank", True) if view.has_ranks else ("final/loss", not view.is_upward)
    results = ["rank", *view.results] if view.has_ranks else view.results
    params, metrics = ([f"{kind}.`{key}`" for key in keys] for kind, keys in (("params", varied), ("metrics", results)))
    scale = "log" if view.is_positive else "linear"
    charts = {
        CURVES: [_curve("loss", CURVES, scale), _curve("gradient_norm", CURVES, "log")],
        RESULTS: [_bar("final/loss", RESULTS), *(_scatter(key, "final/loss", RESULTS) for key in varied[:1])],
    }
    query = f"tags.`mlflow.parentRunId` = '{view.parent}'"
    return _state(query, f"metrics.`{order}`", ascending, [*params, *metrics, "tags.`runner.outcome`"], charts)


def _state(
    query: str, order: str, ascending: bool, columns: Sequence[str], charts: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    sections = [
        {"uuid": name, "name": name, "display": True, "isReordered": True, "columns": 2, "cardHeight": 360}
        for name in charts
    ]
    own = {
        "isAccordionReordered": True,  # else MLflow sorts the sections
        "compareRunCharts": [chart for section in charts.values() for chart in section],
        "compareRunSections": sections,
    }
    return {
        "searchFilter": query,
        "orderByKey": order,
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": list(columns),
        "columnOrder": list(columns),
        "columnWidths": dict.fromkeys(columns, WIDTH),
        "runsHiddenMode": "FIRST_10_RUNS",
        "hideEmptyCharts": True,
        **(own if charts else {}),
    }


def _chart(kind: str, name: str, section: str) -> dict[str, Any]:
    return {"type": kind, "uuid": name, "metricSectionId": section, "deleted": False, "isGenerated": False}


def _curve(metric: str, section: str, scale: str) -> dict[str, Any]:
    return _chart("LINE", metric, section) | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "scaleType": scale,
        "xAxisScaleType": "linear",
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "lineSmoothness": 0,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": True,
    }


def _bar(metric: str, section: str) -> dict[str, Any]:
    return _chart("BAR", metric, section) | {"metricKey": metric, "runsCountToCompare": 10}


def _scatter(param: str, metric: str, section: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": param, "type": "PARAM"}, "yaxis": {"key": metric, "type": "METRIC"}}
    return _chart("SCATTER", f"{metric} by {param}", section) | axes | {"runsCountToCompare": 100}
