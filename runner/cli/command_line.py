"""The command line: checks flags, runs Hydra, handles signals, and reports errors as lines and an exit code."""

import argparse
import errno
import io
import logging
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from runner import __version__, plugins
from runner.composition import composition
from runner.composition.hydra_errors import explain, explain_logging
from runner.composition.overrides import task_overrides
from runner.config.folders import check_working_directory
from runner.config.hydra_private import flag_names, flag_parser
from runner.config.schema import Config, keys_of
from runner.execution.job import run
from runner.messages.errors import RunnerError, Terminated, UserError, nearest
from runner.messages.overrides import key_of
from runner.messages.printing import guarded, print_error
from runner.messages.redaction import hides, shown_text
from runner.process import signals, termination, tracebacks

FLAG_COMMANDS = ("run", "cfg", "multirun", "shell_completion", "info")
ILL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
CONFIG = "config"
SHELLS = ("bash", "fish", "zsh")


def main() -> int:
    """Run what the arguments say and return the exit code: 2 for a user's mistake, 1 for a failure."""
    _open_streams()
    tracebacks.set_tracebacks(None)
    tracebacks.set_tracebacks(tracebacks.shows_tracebacks())
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets Hydra raise errors instead of exiting with 1
    signals.handle()
    if any(key_of(text).startswith("hydra") for text in sys.argv[1:]):  # may run a callback or a logger of the user's
        termination.expect_user_code()
    try:
        _run()
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            return 0
        if not isinstance(error, RunnerError):
            tracebacks.show_traceback(error)
        elif isinstance(error.__cause__, Exception):  # an error of the user's code
            tracebacks.show_traceback(error.__cause__)
        return _report(*_lines_of(error))
    except Terminated as stop:
        return _report(["terminated"], 128 + signal.SIGTERM, _notes(stop))
    except KeyboardInterrupt as stop:
        return _report(["interrupted"], 128 + signal.SIGINT, _notes(stop))
    return 0


def _run() -> None:
    try:
        if "--version" in sys.argv[1:]:
            print(f"runner {__version__}", flush=True)
            return
        check_working_directory()
        composition.install()
        plugins.register()
        prints_configs = _check_flags()
        logging.raiseExceptions = not prints_configs  # as in `--cfg job | head`
        with guarded(prints_configs):
            _run_hydra()
        sys.stdout.flush()
    except Exception:
        signals.check()  # a library may turn a signal into another error
        raise


def _notes(stop: KeyboardInterrupt) -> Sequence[str]:
    """Return the lines that say where a signal stopped the run."""
    notes: list[str] = getattr(stop, "__notes__", [])
    return notes or ["stopped    before anything was run or recorded"]


def _lines_of(error: Exception) -> tuple[Sequence[str], int]:
    """Return the lines and the exit code of an error."""
    if isinstance(error, RunnerError):
        return error.lines, error.exit_code
    if isinstance(error, HydraException | OmegaConfBaseException):
        return [explain(error)], UserError.exit_code
    if isinstance(error, OSError) and error.filename is not None:  # of a folder that Hydra creates, or of a disk
        return [f"{error.filename}: {error.strerror}"], 1 if error.errno in ILL_DISK else UserError.exit_code
    if (line := explain_logging(error)) is not None:
        return [line], UserError.exit_code
    return [f"{tracebacks.described(error)}{tracebacks.traceback_hint()}"], RunnerError.exit_code


def _check_flags() -> bool:
    """Check the flags, for which Hydra would print a traceback or its usage, and move them before the overrides.

    Returns whether they print configs or names of config files.

    Raises:
        UserError: a flag is unknown or has a wrong value, or flags exclude each other.
    """
    flags, others = _parser().parse_known_args()
    unknown = [text for text in others if text.startswith("-")]
    if unknown:
        raise UserError(*map(_unknown_flag, unknown))
    given = [name for name in FLAG_COMMANDS if getattr(flags, name) not in (None, False)]
    if len(given) > 1:
        allowed = ", --".join(FLAG_COMMANDS)
        raise UserError(f"--{' --'.join(given)}: expected only one of --{allowed}".replace("_", "-"))
    if flags.resolve and flags.cfg is None and not flags.help:
        raise UserError("--resolve: expected together with --cfg or --help")
    if flags.experimental_rerun is not None:
        file = flags.experimental_rerun
        raise UserError(f"--experimental-rerun {file}: not supported, it would unpickle the file; expected key=value")
    if flags.package is not None and hides(flags.package):
        raise UserError(f"--package {flags.package}: names a secret, expected another part of the config")
    if flags.config_path is not None:
        _find_configs(flags.config_path)
    if flags.shell_completion:
        _check_completion(flags.overrides)
        composition.install(is_completing=True)
    if others:  # argparse takes overrides on one side of a flag only
        overrides = [*flags.overrides, *others]
        sys.argv[1:] = [text for text in sys.argv[1:] if text not in overrides] + overrides
    return any((flags.cfg, flags.info, flags.help, flags.hydra_help, flags.shell_completion))


def _find_configs(given: str) -> None:
    """Make --config-path relative to the working directory, as --config-dir is, instead of to the module.

    Raises:
        UserError: the folder does not exist.
    """
    if "://" in given:
        return
    folder = Path(given).absolute()
    if not folder.is_dir():
        raise UserError(f"--config-path {given}: no such folder, expected one with {CONFIG}.yaml")
    flags = ("--config-path", "-cp")
    for place, text in enumerate(sys.argv[1:], start=1):
        if text in flags:
            sys.argv[place + 1] = str(folder)
        elif text.startswith(f"{flags[0]}="):
            sys.argv[place] = f"{flags[0]}={folder}"


def _parser() -> argparse.ArgumentParser:
    parser = flag_parser()

    def fail(message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')}; see --help")

    parser.error = fail  # type: ignore[method-assign]  # instead of printing the usage
    return parser


def _unknown_flag(text: str) -> str:
    flag, _, value = text.partition("=")
    known = flag_names(_parser())
    key = flag.lstrip("-")
    wanted = f"; did you mean '{key}={value}'?" if key in keys_of(Config) else nearest(flag, known)
    return f"{shown_text(text)}: unknown flag, expected key=value or one of {', '.join(known)}{wanted}"


def _check_completion(overrides: list[str]) -> None:
    command, _, shell = (overrides[0] if len(overrides) == 1 else "").partition("=")
    if command not in ("install", "uninstall", "query") or shell not in SHELLS:
        given = " ".join(overrides)
        raise UserError(f"--shell-completion {given}: expected install=, uninstall= or query= with {', '.join(SHELLS)}")
    if command == "query" and "COMP_LINE" not in os.environ:
        raise UserError(f"--shell-completion {command}={shell}: expected to be called by a shell, which sets COMP_LINE")


def _overrides() -> list[str]:
    """Return the overrides of the run as they were typed: Hydra's own list would give resolved interpolations."""
    return task_overrides(cast(DictConfig, HydraConfig.instance().cfg))


def _run_hydra() -> None:
    failed: list[Exception] = []
    show_all = tracebacks.shows_tracebacks()

    folder = Path.cwd()

    def task(cfg: DictConfig) -> float | None:
        os.chdir(folder)  # where outputs/ is, with hydra.job.chdir, too
        config = composition.to_config(cfg)
        try:
            result = run(config, overrides=_overrides()).result
        except Exception as error:
            # Hydra heads what a single run raises with a line of its own; a sweep collects what its jobs raise.
            if config.parent_run is not None and not isinstance(error, RunnerError):
                raise _failure(error, show_all) from error
            if config.parent_run is not None:
                raise
            failed.append(error)
            return None
        return result.loss if result.divergence is None else config.direction.worst  # what a sweeper compares

    hydra.main(config_path=str(composition.config_folder()), config_name=CONFIG, version_base="1.3")(task)()
    if failed:
        raise failed[0]


def _failure(error: Exception, show_all: bool) -> RunnerError:
    """Return an error of a job's function as one that can be pickled, with its description."""
    tracebacks.set_tracebacks(show_all)
    tracebacks.show_traceback(error)
    return RunnerError(tracebacks.described(error))


def _report(lines: Sequence[str], exit_code: int, notes: Sequence[str] = ()) -> int:
    for line in [*(f"error: {line}" for line in lines), *notes]:
        print_error(line)
    return exit_code


def _is_unread() -> bool:
    """Return whether stdout was closed by its reader, which is not a failure; the rest of the output is discarded."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not poll.poll(0):  # the broken pipe is another one
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _open_streams() -> None:
    """Open closed standard streams, and escape characters that the encoding of stdout does not have."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
