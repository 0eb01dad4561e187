"""What the jobs of a sweep leave to the record of their parent run: params and tags that they share.

With `tracking.children` at `varied` or `summary`, the parent run has the params and tags in which all jobs agree, and a
job has its others. Readers put them together again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from runner.config.schema import Config
from runner.tracking.processes import IDENTITY
from runner.tracking.provenance import DESCRIPTION, MLFLOW_COMMIT, ROOTS, params_of

# Tags of a parent run: how its jobs are recorded, the keys of its overrides, and those of its params that no job
# inherits. The first is a tag of a job, too, where that has all params and tags itself although its parent has some.
CHILDREN = "runner.children"
OVERRIDES = "runner.overrides"
OWN_PARAMS = "runner.own_params"
ALL = "all"
SUMMARY = "summary"
# The tags that jobs inherit in addition to those of the config.
TAGS = ("mlflow.user", "mlflow.source.name", "mlflow.source.type", MLFLOW_COMMIT, "device")
FAMILIES = ("version.", "device.", "git.", "data.")
USERS = "tags."
POSITIONS = {root: position for position, root in enumerate(ROOTS)}


@dataclass(frozen=True)
class Inherited:
    """Params and tags of a parent run that its jobs have, unless they have others under the same keys.

    Attributes:
        same: the root keys of the config under which all params of all jobs are inherited.
    """

    params: Mapping[str, str]
    tags: Mapping[str, str]
    same: frozenset[str] = frozenset()

    @classmethod
    def of(cls, params: Mapping[str, str], tags: Mapping[str, str]) -> Self | None:
        """Return what the params and tags of a recorded parent run leave to its jobs; None if they have it all."""
        if CHILDREN not in tags:
            return None
        own = tags.get(OWN_PARAMS, "").split()
        shared = {key: text for key, text in params.items() if key not in own and not key.startswith("runner.")}
        users = {key.removeprefix(USERS) for key in shared if key.startswith(USERS)} - {DESCRIPTION}
        return cls(shared, {key: text for key, text in tags.items() if key in users or is_inherited(key)})

    def fill(self, params: dict[str, str], tags: dict[str, str]) -> None:
        """Add what a recorded job inherits to its own params and tags; the params are then in the order of configs."""
        if tags.get(CHILDREN) == ALL:
            return
        complete = {**self.params, **params}
        params.clear()
        params |= {key: complete[key] for key in sorted(complete, key=_position)}
        for key, text in self.tags.items():
            tags.setdefault(key, text)

    def left(self, config: Config, tags: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Return the params and tags that a job records itself: all of them if it lacks one of those inherited.

        Its process is that of the parent run, which has the tags of it.
        """
        params = params_of(config, [root for root in ROOTS if root not in self.same])
        is_complete = self._further <= params.keys() and self.tags.keys() <= tags.keys()
        if not is_complete:
            return params_of(config), {**tags, CHILDREN: ALL}
        return _others(params, self.params), _others(
            {key: text for key, text in tags.items() if key not in IDENTITY}, self.tags
        )

    @property
    def _further(self) -> set[str]:
        return {key for key in self.params if root_of(key) not in self.same}


def _others(given: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in given.items() if known.get(key) != text}


def is_inherited(tag: str) -> bool:
    """Return whether jobs inherit a tag that is not one of their config's."""
    return tag in TAGS or tag.startswith(FAMILIES)


def _position(key: str) -> int:
    return POSITIONS.get(root_of(key), -1)


def root_of(key: str) -> str:
    """Return the root key of a dotted one."""
    return key.partition(".")[0]


def shared_params(configs: Sequence[Config]) -> dict[str, str]:
    """Return the params that configs have in common."""
    return {key: text for root in ROOTS for key, text in _shared_of(configs, root).items()}


def same_roots(configs: Sequence[Config], params: Mapping[str, str]) -> frozenset[str]:
    """Return the root keys under which all configs have exactly these params."""
    wanted: dict[str, dict[str, str]] = {root: {} for root in ROOTS}
    for key, text in params.items():
        wanted.setdefault(root_of(key), {})[key] = text
    return frozenset(root for root in ROOTS if all(one == wanted[root] for one in _distinct(configs, root)))


def _shared_of(configs: Sequence[Config], root: str) -> dict[str, str]:
    shared: dict[str, str] | None = None
    for params in _distinct(configs, root):
        shared = params if shared is None else {key: text for key, text in shared.items() if params.get(key) == text}
        if not shared:
            return {}
    return shared or {}


def _distinct(configs: Iterable[Config], root: str) -> Iterator[dict[str, str]]:
    """Yield the params under a root key: once for values that are one object, as most jobs of a sweep have it."""
    seen: set[int] = set()
    for config in configs:
        value = getattr(config, root)
        if id(value) not in seen:
            seen.add(id(value))
            yield params_of(config, [root])
