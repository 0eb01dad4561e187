"""What the terminal shows of a run: its settings, its progress, how it ended and where it is recorded."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from runner.config.groups import DECLARED
from runner.config.schema import Config
from runner.console.bar import Bar, has_bars
from runner.console.recorded import interrupted_record
from runner.console.view import ProgressView
from runner.messages.printing import print_lines, warn
from runner.messages.ranges import shown
from runner.messages.redaction import shown_tree

if TYPE_CHECKING:
    from runner.engine.problem import Batch
    from runner.engine.progress import Descent
    from runner.engine.result import Result
    from runner.tensors.device import Hardware

MOST_NUMBERS = 4
MOST_LABELS = 10
PROGRESS_LINES = 10
LARGE = 1e9


class Console(ProgressView):
    """Shows one run."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._is_child = config.parent_run is not None
        self._lines = 0
        self._descent: Descent | None = None

    def start(self, hardware: "Hardware", batch: "Batch") -> None:
        """Print the device and the settings of the run."""
        config = self._config = batch.members[0].config  # with its number of steps, where it has epochs
        weight = batch.members[0].start.tolist()
        if config.quiet or self._is_child:
            return
        print_lines(f"device     {hardware}")
        print_lines(f"objective  {_group(shown_tree(config.objective.tree), DECLARED)}")
        if labels := batch.objective.labels:
            print_lines(f"classes    {_numbered(labels)}")
        print_lines(f"optimizer  {_group(shown_tree(config.optimizer.tree))}, lr {config.lr:g}, {config.steps:,} steps")
        print_lines(f"start      weight {_numbers(weight)} ({config.dtype})")
        if has_bars():
            self._bar = Bar(config.steps)

    def progress(self, descent: "Descent") -> None:
        """Show how many steps are done, and the loss."""
        self._descent = descent
        result = descent.result(0)
        if self._bar is not None:
            count = f"{result.steps:,} of {self._config.steps:,} steps"
            self._bar.show(result.steps, count, f"loss {result.loss:.6g}")
        elif not self._config.quiet and not self._is_child:
            lines = result.steps * PROGRESS_LINES // self._config.steps
            if lines > self._lines:
                print_lines(f"step {result.steps:>9,}  loss {_number(result.loss)}")
            self._lines = lines

    def stopped(self) -> Iterator[str]:
        """Yield how far the run was when a signal stopped it, where it is recorded, and how to continue from there."""
        self.stop()
        config, recorded = self._config, self.find_record()
        name = f"{config.name}: " if self._is_child else ""
        if self.has_ended:
            yield f"stopped    {name}after its end, while it was being recorded"
        elif self._descent is None:
            yield f"stopped    {name}before the first of {config.steps:,} steps was done"
        else:
            result, best = self._descent.result(0), self._descent.best
            place = f"{name}after {result.steps:,} of {config.steps:,} steps ({result.seconds:.2f} s)"
            yield f"stopped    {place}: loss {_number(result.loss)}, best so far {_number(best)}"
        if self._descent is not None or recorded is not None:
            yield from interrupted_record(recorded, config)
        if self._descent is not None and not self.has_ended and not self._is_child:
            weight = self._descent.result(0).weight.tolist()
            if len(weight) <= MOST_NUMBERS:
                text = shown(weight if len(weight) > 1 else weight[0])
                yield f"continue   'initial_weight={text}' starts from this weight"

    def finish(self, result: "Result") -> None:
        """Print how the run ended, compared with the known minimum."""
        self.stop()
        self.has_ended = True
        if self._config.quiet:
            if result.divergence is not None and not self._is_child and not self._config.fail_on_divergence:
                warn(f"{result.sentence.replace('diverged', result.divergence, 1)}")
            return
        if self._is_child:
            print_lines(f"{self._config.name}: loss {result.loss:.10g} after {result.steps:,} steps, {result.sentence}")
            return
        first, *others = _summary(result)
        print_lines(first if result.divergence is None else _in_red(first), *others)


def _in_red(text: str) -> str:
    """Return text in red if the terminal has colours."""
    return f"\x1b[31m{text}\x1b[0m" if has_bars() and not os.environ.get("NO_COLOR") else text


def _summary(result: "Result") -> Iterator[str]:
    at = f"at step {result.steps:,}" if result.outcome.name == "DIVERGED" else f"after {result.steps:,} steps"
    rate = result.steps / max(result.seconds, 1e-9)
    yield f"ended      {at}: {result.sentence} ({result.seconds:.2f} s, {rate:,.0f} steps/s)"
    if result.engine is not None:
        yield f"engine     {result.engine}"
    minimum = "" if result.nearest_minimum is None else f"  minimum at {_numbers(result.nearest_minimum)}"
    yield f"weight     {_numbers(result.weight.tolist())}{minimum}{_known('distance', result.distance)}"
    yield f"gradient   {_numbers(result.gradient.tolist())}  near 0 means converged"
    lowest = "" if result.minimum is None else f"  minimum {result.minimum:g}"
    yield f"loss       {_number(result.loss)}{lowest}{_known('error', result.loss_error)}"
    for name, value in result.measured.items():
        yield f"{name:<9}  {value:.10g}"
    for remark in result.remarks:
        yield f"remark     {remark}"


def _known(name: str, value: float | None) -> str:
    return "" if value is None else f", {name} {value:.6g}"


def _numbered(labels: Sequence[str]) -> str:
    texts = [f"{number} is {label}" for number, label in enumerate(labels[:MOST_LABELS])]
    return ", ".join([*texts, f"... {len(labels)} classes"] if len(labels) > MOST_LABELS else texts)


def _numbers(values: Sequence[float]) -> str:
    texts = [_number(value) for value in values[:MOST_NUMBERS]]
    if len(values) == 1:
        return texts[0]
    more = f", ... {len(values)} numbers" if len(values) > MOST_NUMBERS else ""
    return f"[{', '.join(texts)}{more}]"


def _number(value: float) -> str:
    return f"{value:.10f}" if abs(value) < LARGE else f"{value:.10g}"


def _group(settings: dict[str, Any], without: Sequence[str] = ("name",)) -> str:
    given = {key: value for key, value in settings.items() if key not in without and value is not None}
    parameters = [f"{key} {shown(value)}" for key, value in given.items()]
    return ", ".join([settings["name"], *parameters])
