"""Checks the paths that Hydra writes to: inside `outputs/` for those of a config file, and never through a link."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias

from runner.config.folders import ANY, DIGITS, ROOT, existing, is_within, link_on_the_way, was_written_by_hydra
from runner.messages.ranges import shown

# Interpolations that Hydra's own configs use in paths; any other could give any path.
PATH_INTERPOLATION = re.compile(
    r"\$\{(?:now:[\w%-]+|hydra[.:]job\.(?:name|num|id|override_dirname)"
    r"|hydra[.:](?:run|sweep)\.dir|hydra[.:]sweep\.subdir|hydra[.:]runtime\.(?:output_dir|cwd))\}"
)
HERE = "."
# Hydra's default folders of a sweep, and the one that contains them.
SWEEP_DIR, SUBDIR, SWEEPS = "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}", "${hydra.job.num}", "multirun"
OUTPUT_FILES = ("config.yaml", "hydra.yaml", "overrides.yaml")
JOB_NAME = "runner"
MOST_REFERENCES = 10
EXPECTED = f"a new path inside {ROOT}/ without links, or the setting on the command line"
# A `log` is appended to, not replaced; `named` is a log whose file the command line names.
Kind: TypeAlias = Literal["folder", "file", "log", "named"]


@dataclass(frozen=True)
class OutputPath:
    """A path that is written to.

    Attributes:
        key: the setting that contains it.
        parts: the parts of the path, unresolved.
        is_trusted: it comes from the command line or from the defaults of the runner and Hydra.
    """

    key: str
    parts: Sequence[str]
    is_trusted: bool
    kind: Kind = "folder"


@dataclass(frozen=True)
class OutputPaths:
    """The paths that a run or sweep writes to because of Hydra's settings.

    Attributes:
        hydra: the key `hydra` of the config, unresolved.
        installed: by group, the settings of the chosen option if it is an installed one.
        given: the keys that the command line sets.
        chosen: the groups whose options the command line chooses.
        is_sweep: the config is that of a sweep or of a job of one.
        is_job: it is that of a job; other jobs may have written already.
    """

    hydra: Mapping[str, Any]
    installed: Mapping[str, Mapping[str, Any]]
    given: Sequence[str]
    chosen: Sequence[str]
    is_sweep: bool
    is_job: bool

    def refused(self) -> Iterator[str]:
        """Yield a line for each path that must not be written to."""
        reported = set()
        for path in (*self._folders(), *self._files(), *self._logs(), *self._of_launcher()):
            line = self._why_refused(path)
            if line is not None and path.key not in reported:
                reported.add(path.key)
                yield f"hydra.{path.key}={shown(self._value(path.key))}: {line}"

    def _folders(self) -> Iterator[OutputPath]:
        yield OutputPath("run.dir", self._run_dir, self._is_trusted("run.dir", HERE))
        yield OutputPath("sweep.dir", [self._text("sweep.dir")], self._is_trusted("sweep.dir", HERE))
        is_default = self._is_trusted("sweep.subdir", HERE, SUBDIR) and self._is_trusted("sweep.dir")
        yield OutputPath("sweep.subdir", self._sweep_dir, self._is_trusted("sweep.subdir") or is_default)

    def _files(self) -> Iterator[OutputPath]:
        """Yield the paths of the configs that Hydra saves."""
        subdir = self._value("output_subdir")
        if subdir is not None:
            is_trusted = self._is_trusted("output_subdir") or (
                subdir == ".hydra" and self._is_trusted(self._output_key)
            )
            for name in OUTPUT_FILES:
                yield OutputPath("output_subdir", [*self._output_dir, str(subdir), name], is_trusted, "file")
        target = str(self._value("sweeper._target_"))
        if self.is_sweep and not self.is_job and not target.startswith("hydra_plugins.runner."):
            is_trusted = self._is_trusted("sweep.dir") or "sweeper" in self.chosen
            yield OutputPath("sweep.dir", [self._text("sweep.dir"), "multirun.yaml"], is_trusted, "file")

    def _logs(self) -> Iterator[OutputPath]:
        for group in ("hydra_logging", "job_logging"):
            for name, handler in (self._value(f"{group}.handlers") or {}).items():
                file = handler.get("filename") if isinstance(handler, Mapping) else None
                key = f"{group}.handlers.{name}.filename"
                if file is not None and self._is_trusted(key):
                    yield OutputPath(key, [str(file)], True, "named")
                elif file is not None:
                    is_chosen = group in self.chosen and self._is_trusted("job.name", JOB_NAME)
                    is_apart = "output_dir" not in str(file) or self._is_trusted(self._output_key, HERE)
                    yield OutputPath(key, [str(file)], is_chosen and is_apart, "log")

    def _of_launcher(self) -> Iterator[OutputPath]:
        installed = self.installed.get("launcher", {})
        for name, value in (self._value("launcher") or {}).items():
            if isinstance(value, str) and name.endswith(("folder", "dir")):
                is_default = (
                    "launcher" in self.chosen and installed.get(name) == value and self._is_trusted("sweep.dir", HERE)
                )
                is_trusted = is_default or self._is_trusted(f"launcher.{name}")
                yield OutputPath(f"launcher.{name}", [value.replace("%j", ANY)], is_trusted)

    def _why_refused(self, written: OutputPath) -> str | None:
        """Return why a path is refused; None if it is not, or unknown, which `refused_hydra_settings` reports."""
        path, now = self._path(written.parts, None), self._path(written.parts, datetime.now())
        if path is None or now is None or (PurePath(path) == PurePath(HERE) and written.kind == "folder"):
            return None
        roots = (ROOT, SWEEPS) if self._text("sweep.dir") == SWEEP_DIR else (ROOT,)
        if not written.is_trusted and not is_within(path, roots):
            return f"not allowed in a config file, expected {EXPECTED}"
        link = link_on_the_way(path, (ROOT, SWEEPS))
        if link is None and written.kind in ("file", "log"):
            link = next((file for file in existing(path) if file.is_symlink()), None)
        if link is not None:
            return f"{shown(str(link))} is a link, expected a path without links"
        if written.is_trusted or written.kind == "folder" or (written.kind == "log" and self.is_job):
            return None
        there = next((file for file in existing(now) if written.kind == "log" or not was_written_by_hydra(file)), None)
        if there is None:
            return None
        return f"not allowed in a config file, {shown(str(there))} exists, expected {EXPECTED}"

    def _is_trusted(self, key: str, *defaults: str) -> bool:
        """Return whether the command line sets a key, or its value is one of these defaults."""
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
        """Return a path, with `ANY` or `DIGITS` for what is not known yet; None where it could be any path."""
        known = [self._resolved(part, time, references) for part in parts]
        texts = [text for text in known if text is not None]
        return str(PurePath(*texts)) if len(texts) == len(parts) else None

    def _resolved(self, text: str, time: datetime | None, references: int) -> str | None:
        found = [self._interpolated(match[0], time, references) for match in PATH_INTERPOLATION.finditer(text)]
        between = PATH_INTERPOLATION.split(text)
        if any("${" in part for part in between) or any(value is None for value in found):
            return None
        return between[0] + "".join(f"{value}{part}" for value, part in zip(found, between[1:], strict=True))

    def _interpolated(self, interpolation: str, time: datetime | None, references: int) -> str | None:
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
        return self._resolved(str(value), time, references - 1)


def _digits(directive: re.Match[str]) -> str:
    """Return the placeholder for a directive of a time format."""
    return DIGITS if directive[0][1] in "YmdHMSfjyIUWuw" else ANY
