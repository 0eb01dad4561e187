"""Where Hydra would make folders and files: within `outputs/` what a config file names, and never through a link."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias

from runner.config.folders import ANY, DIGITS, ROOT, existing, is_ours, is_within, link_on_the_way
from runner.messages.ranges import shown

# What Hydra's own configs interpolate in folders and names of files; anything else could become anything.
HARMLESS = re.compile(
    r"\$\{(?:now:[\w%-]+|hydra[.:]job\.(?:name|num|id|override_dirname)"
    r"|hydra[.:](?:run|sweep)\.dir|hydra[.:]sweep\.subdir|hydra[.:]runtime\.(?:output_dir|cwd))\}"
)
HERE = "."
# What Hydra itself says of a sweep, and the folder that this lies in.
SWEEP_DIR, SUBDIR, SWEEPS = "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}", "${hydra.job.num}", "multirun"
OUTPUT_FILES = ("config.yaml", "hydra.yaml", "overrides.yaml")
JOB_NAME = "runner"
MOST_REFERENCES = 10
EXPECTED = f"a new place within {ROOT}/ to which no link leads, or the setting on the command line"
# A log is written on, not replaced; `named` is one whose very file the command line names.
Kind: TypeAlias = Literal["folder", "file", "log", "named"]


@dataclass(frozen=True)
class Written:
    """What is written somewhere.

    Attributes:
        key: the setting that says where.
        place: the parts of its path, as they are written in the config.
        is_users: the command line says so, or nobody but the runner and Hydra.
    """

    key: str
    place: Sequence[str]
    is_users: bool
    kind: Kind = "folder"


@dataclass(frozen=True)
class Places:
    """Where the parts of one composition are written.

    Attributes:
        hydra: Hydra's part of the config, unresolved.
        own: of its groups, what the chosen option says where no stranger has made it.
        given: the keys that the command line sets.
        chosen: the groups whose options it chooses.
        is_sweep: a sweep is composed, or a job of one.
        is_job: a job is, beside which others may have written already.
    """

    hydra: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]
    given: Sequence[str]
    chosen: Sequence[str]
    is_sweep: bool
    is_job: bool

    def misplaced(self) -> Iterator[str]:
        """Yield a line for each place that no run may write to."""
        told = set()
        for written in (*self._folders(), *self._files(), *self._logs(), *self._of_launcher()):
            line = self._wrong(written)
            if line is not None and written.key not in told:
                told.add(written.key)
                yield f"hydra.{written.key}={shown(self._value(written.key))}: {line}"

    def _folders(self) -> Iterator[Written]:
        yield Written("run.dir", self._run_dir, self._is_users("run.dir", HERE))
        yield Written("sweep.dir", [self._text("sweep.dir")], self._is_users("sweep.dir", HERE))
        is_default = self._is_users("sweep.subdir", HERE, SUBDIR) and self._is_users("sweep.dir")
        yield Written("sweep.subdir", self._sweep_dir, self._is_users("sweep.subdir") or is_default)

    def _files(self) -> Iterator[Written]:
        """Yield the configs that Hydra saves."""
        subdir = self._value("output_subdir")
        if subdir is not None:
            is_users = self._is_users("output_subdir") or (subdir == ".hydra" and self._is_users(self._output_key))
            for name in OUTPUT_FILES:
                yield Written("output_subdir", [*self._output_dir, str(subdir), name], is_users, "file")
        target = str(self._value("sweeper._target_"))
        if self.is_sweep and not self.is_job and not target.startswith("hydra_plugins.runner."):
            is_users = self._is_users("sweep.dir") or "sweeper" in self.chosen
            yield Written("sweep.dir", [self._text("sweep.dir"), "multirun.yaml"], is_users, "file")

    def _logs(self) -> Iterator[Written]:
        for group in ("hydra_logging", "job_logging"):
            for name, handler in (self._value(f"{group}.handlers") or {}).items():
                file = handler.get("filename") if isinstance(handler, Mapping) else None
                key = f"{group}.handlers.{name}.filename"
                if file is not None and self._is_users(key):
                    yield Written(key, [str(file)], True, "named")
                elif file is not None:
                    is_chosen = group in self.chosen and self._is_users("job.name", JOB_NAME)
                    is_apart = "output_dir" not in str(file) or self._is_users(self._output_key, HERE)
                    yield Written(key, [str(file)], is_chosen and is_apart, "log")

    def _of_launcher(self) -> Iterator[Written]:
        own = self.own.get("launcher", {})
        for name, value in (self._value("launcher") or {}).items():
            if isinstance(value, str) and name.endswith(("folder", "dir")):
                is_default = "launcher" in self.chosen and own.get(name) == value and self._is_users("sweep.dir", HERE)
                is_users = is_default or self._is_users(f"launcher.{name}")
                yield Written(f"launcher.{name}", [value.replace("%j", ANY)], is_users)

    def _wrong(self, written: Written) -> str | None:
        """Return what is wrong with a place; None also where it cannot be told, which `shut_doors` says."""
        place, now = self._path(written.place, None), self._path(written.place, datetime.now())
        if place is None or now is None or (PurePath(place) == PurePath(HERE) and written.kind == "folder"):
            return None
        roots = (ROOT, SWEEPS) if self._text("sweep.dir") == SWEEP_DIR else (ROOT,)
        if not written.is_users and not is_within(place, roots):
            return f"a config file cannot say so, expected {EXPECTED}"
        link = link_on_the_way(place, (ROOT, SWEEPS))
        if link is None and written.kind in ("file", "log"):
            link = next((path for path in existing(place) if path.is_symlink()), None)
        if link is not None:
            return f"{shown(str(link))} is a link, expected a place to which none leads"
        if written.is_users or written.kind == "folder" or (written.kind == "log" and self.is_job):
            return None
        there = next((path for path in existing(now) if written.kind == "log" or not is_ours(path)), None)
        if there is None:
            return None
        return f"a config file cannot say so, {shown(str(there))} exists, expected {EXPECTED}"

    def _is_users(self, key: str, *defaults: str) -> bool:
        """Tell whether the command line sets a key, or its value is one of these, which nobody needs to have set."""
        above = key.split(".")
        is_given = any(".".join(above[:length]) in self.given for length in range(1, len(above) + 1))
        return is_given or self._value(key) in defaults

    @property
    def _run_dir(self) -> list[str]:
        return [self._text("run.dir")]

    @property
    def _sweep_dir(self) -> list[str]:
        return [self._text("sweep.dir"), self._text("sweep.subdir")]

    @property
    def _output_dir(self) -> list[str]:
        return self._sweep_dir if self.is_sweep else self._run_dir

    @property
    def _output_key(self) -> str:
        return "sweep.dir" if self.is_sweep else "run.dir"

    def _text(self, key: str) -> str:
        value = self._value(key)
        return HERE if value is None else str(value)

    def _value(self, key: str) -> Any:
        value: Any = self.hydra
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def _path(self, parts: Sequence[str], time: datetime | None, references: int = MOST_REFERENCES) -> str | None:
        """Return the path of a place, `ANY` or `DIGITS` for what is not known yet; None where it may be anything."""
        known = [self._known(part, time, references) for part in parts]
        texts = [text for text in known if text is not None]
        return str(PurePath(*texts)) if len(texts) == len(parts) else None

    def _known(self, text: str, time: datetime | None, references: int) -> str | None:
        found = [self._meant(match[0], time, references) for match in HARMLESS.finditer(text)]
        between = HARMLESS.split(text)
        if any("${" in part for part in between) or any(value is None for value in found):
            return None
        return between[0] + "".join(f"{value}{part}" for value, part in zip(found, between[1:], strict=True))

    def _meant(self, interpolation: str, time: datetime | None, references: int) -> str | None:
        name = interpolation[2:-1]
        if name.startswith("now:"):
            form = name.removeprefix("now:")
            return re.sub("%.", _digits, form) if time is None else time.strftime(form)
        key = name[len("hydra.") :]
        if key == "runtime.cwd":
            return str(Path.cwd())
        if references == 0:
            return None
        if key == "runtime.output_dir":
            return self._path(self._output_dir, time, references - 1)
        value = self._value(key)
        if value in (None, "???"):
            return DIGITS if key == "job.num" else ANY
        return self._known(str(value), time, references - 1)


def _digits(directive: re.Match[str]) -> str:
    """Return what a part of a time is made of."""
    return DIGITS if directive[0][1] in "YmdHMSfjyIUWuw" else ANY
