"""The runs of the page: every learning rate with every momentum, each composed as `python -m runner` composes it."""

import itertools
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.composition import composition
from runner.composition.overrides import task_overrides
from runner.config.schema import Config
from runner.messages.overrides import key_of, split_override
from runner.messages.ranges import shown
from runner.messages.redaction import shown_override
from runner.sweeps.planning import plan_grid

MOMENTA = (0.0, 0.5, 0.8, 0.9, 0.95)
LR, STEPS, SECONDS = "lr", "steps", "stop.seconds"


@dataclass(frozen=True)
class Momenta:
    """The momenta of the page's runs.

    Attributes:
        key: the config key that holds them; None where the rule has no momentum.
        values: in rising order; a single None where the rule has no momentum.
        overrides: for each value, the overrides that set it.
        own: the index of the config's own value.
    """

    key: str | None
    values: tuple[float | None, ...]
    overrides: tuple[tuple[str, ...], ...]
    own: int = 0

    @classmethod
    def of(cls, config: Config) -> "Momenta":
        """Return the momenta to try for a config: those of its rule, or, for plain descent, those of heavy ball."""
        settings = {} if config.optimizer.is_torch_optim else config.optimizer.settings
        if config.optimizer.name == "gd":
            others = ((f"optimizer={name}", f"{key}={value}") for name, key, value in _heavy_ball())
            return cls("optimizer.momentum", MOMENTA, ((), *others))
        if "momentum" in settings:
            values = _with_own(float(settings["momentum"]))
            texts = tuple((f"optimizer.momentum={shown(value)}",) for value in values)
            return cls("optimizer.momentum", values, texts, values.index(float(settings["momentum"])))
        if "betas" in settings:
            first, *rest = settings["betas"]
            values = _with_own(float(first))
            texts = tuple((f"optimizer.betas={shown([value, *rest])}".replace(" ", ""),) for value in values)
            return cls("optimizer.betas", values, texts, values.index(float(first)))
        return cls(None, (None,), ((),))


def _heavy_ball() -> Iterator[tuple[str, str, float]]:
    return (("momentum", "optimizer.momentum", value) for value in MOMENTA[1:])


def _with_own(own: float) -> tuple[float, ...]:
    """Return the usual momenta, the nearest above 0 replaced by the config's own where that is another."""
    if own in MOMENTA:
        return MOMENTA
    nearest = min(MOMENTA[1:], key=lambda value: abs(value - own))
    return tuple(sorted({own, *MOMENTA} - {nearest}))


@dataclass(frozen=True, eq=False)
class Grid:
    """The runs of the page.

    Attributes:
        rates: the learning rates, in rising order.
        momenta: the momenta.
        configs: of each run, the learning rate varying fastest.
        commands: for each momentum, what repeats its runs, without learning rate and number of steps.
    """

    rates: tuple[float, ...]
    momenta: Momenta
    configs: tuple[Config, ...]
    commands: tuple[str, ...]


def composed(overrides: Sequence[str]) -> tuple[Config, list[str]]:
    """Return the config that `python -m runner` composes of these overrides, and them, without a limit on wall time.

    Raises:
        UserError: with a line for each mistake.
    """
    config, texts = composition.to_config(composition.compose(overrides)), list(overrides)
    if config.stop.seconds is not None:  # a batch takes longer than a run of it
        texts = [*(text for text in texts if key_of(text) != SECONDS), f"{SECONDS}=null"]
        config = composition.to_config(composition.compose(texts))
    return config, texts


def grid_of(overrides: Sequence[str], config: Config, rates: Sequence[float]) -> Grid:
    """Return the runs of every learning rate with every momentum; all else is as the overrides of `config` say.

    Raises:
        UserError: with a line for each mistake.
    """
    momenta = Momenta.of(config)
    configs: list[Config] = []
    for texts in _merged(momenta.overrides):
        swept = f"{LR}={','.join(shown(rate) for rate in rates)}"
        configs += _configs([*_others(overrides, texts), *texts, f"{STEPS}={config.steps}", swept])
    commands = (_quoted([*_others(overrides, texts), *texts]) for texts in momenta.overrides)
    return Grid(tuple(rates), momenta, tuple(configs), tuple(commands))


def _others(overrides: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Return the user's overrides but for those that the page sets: learning rate, steps and the keys of `texts`."""
    return [text for text in overrides if key_of(text) not in {LR, STEPS, *map(key_of, texts)}]


def _quoted(overrides: Sequence[str]) -> str:
    """Return the command with these overrides, for a shell; without `quiet`, so that it prints its result."""
    words = [shown_override(text) for text in overrides if key_of(text) != "quiet"]
    return shlex.join(["python", "-m", "runner", *words])


def _merged(overrides: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the overrides of several momenta, those that differ only in the last value as one with all values.

    Hydra composes each that is yielded, which takes longer than many runs.
    """
    for (others, key), texts in itertools.groupby(
        overrides, lambda texts: (texts[:-1], [key_of(t) for t in texts[-1:]])
    ):
        values = ",".join(split_override(text[-1]).value or "" for text in texts if text)
        yield [*others, *(f"{name}={values}" for name in key)]


def _configs(overrides: Sequence[str]) -> list[Config]:
    loader, master = composition.compose_sweep(overrides)
    _, jobs = plan_grid(task_overrides(master), {}, loader, master)
    return [job.config for job in jobs]
