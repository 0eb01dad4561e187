"""The rules that stop a run before its last step: their ranges and their messages; imports no torch."""

from collections.abc import Iterator
from enum import Enum

from runner.config.groups import StopConfig
from runner.messages.ranges import COUNT, POSITIVE, Constraint, Tree, is_finite, key_problems


class StopReason(Enum):
    """Why a run stopped early; `sentence` puts the rule's limit into the value."""

    GRADIENT_NORM = "gradient norm fell below {limit:g}"
    LOSS_CHANGE = "loss changed by less than {limit:g} in {window} steps"
    TARGET_LOSS = "loss reached the target {limit:g}"
    SECONDS = "ran for {limit:g} seconds"

    def sentence(self, stop: StopConfig) -> str:
        """Return the message with the limit of the run's settings."""
        limit = stop.loss_change.below if self is StopReason.LOSS_CHANGE else getattr(stop, self.name.lower())
        return self.value.format(limit=limit, window=stop.loss_change.window)


TOP: dict[str, Constraint] = {
    "gradient_norm": POSITIVE.or_null("no such rule"),
    "loss_change": Constraint("keys below, window", lambda value: isinstance(value, dict)),
    "target_loss": Constraint("a finite number", is_finite).or_null("no such rule"),
    "seconds": POSITIVE.or_null("no such rule"),
}
LOSS_CHANGE: dict[str, Constraint] = {"below": POSITIVE.or_null("no such rule"), "window": COUNT}


def stop_problems(settings: Tree, steps: int | None = None) -> Iterator[str]:
    """Yield a line for each mistake in the stopping rules.

    Args:
        settings: the config group; its name does not matter.
        steps: the run's length, where known: a window that long is never full.
    """
    yield from key_problems({key: value for key, value in settings.items() if key != "name"}, TOP, "stop.")
    change = settings.get("loss_change")
    if not isinstance(change, dict):
        return
    mistakes = list(key_problems(change, LOSS_CHANGE, "stop.loss_change."))
    yield from mistakes
    if not mistakes and steps is not None and change["below"] is not None and change["window"] >= steps:
        yield f"stop.loss_change.window={change['window']}: expected fewer than the run's {steps} steps"
