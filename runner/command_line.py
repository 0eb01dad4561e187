"""The command line's edge: Hydra's entry point, signals, and errors as one line and an exit code."""

import gc
import os
import signal
import sys
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from runner import __version__, composition, interruption, sweeps
from runner.errors import RunnerError, Terminated, UserError
from runner.hiding import shown_text
from runner.job import run


def main() -> int:
    """Run what the arguments say and return the exit code: 2 for a user's mistake, 1 for a failure."""
    if "--version" in sys.argv[1:]:
        print(f"runner {__version__}")
        return 0
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, instead of printing a traceback and leaving with 1
    composition.install()
    sweeps.register()
    interruption.listen()
    try:
        _check_flags()
        _run_hydra()
    except RunnerError as error:
        return _tell(error.lines, error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        return _tell([composition.explain(error)], UserError.exit_code)
    except Terminated:
        return _tell(["terminated"], 128 + signal.SIGTERM)
    except KeyboardInterrupt:
        return _tell(["interrupted"], 128 + signal.SIGINT)
    finally:
        gc.freeze()  # else leaving takes a last collection of all of torch
    return 0


def _check_flags() -> None:
    """Check what Hydra would tell with a traceback.

    Raises:
        UserError: flags that do not go together.
    """
    flags = get_args_parser().parse_args()
    commands = ("run", "cfg", "multirun", "shell_completion", "info")
    given = [name for name in commands if getattr(flags, name) not in (None, False)]
    if len(given) > 1:
        raise UserError(f"--{' --'.join(given)}: expected only one of --{', --'.join(commands)}".replace("_", "-"))
    if flags.resolve and flags.cfg is None and not flags.help:
        raise UserError("--resolve: expected together with --cfg or --help")


def _run_hydra() -> None:
    failed: list[RunnerError] = []

    def task(cfg: DictConfig) -> None:
        config = composition.to_config(cfg)
        try:
            run(config)
        except RunnerError as error:
            # Hydra heads what a single run raises with a line of its own; a sweep collects what its jobs raise.
            if config.parent_run is not None:
                raise
            failed.append(error)

    hydra.main(config_path=str(composition.config_folder()), config_name="config", version_base="1.3")(task)()
    if failed:
        raise failed[0]


def _tell(lines: list[str] | tuple[str, ...], exit_code: int) -> int:
    for line in lines:
        print(f"error: {shown_text(line)}", file=sys.stderr)
    return exit_code


def leave() -> NoReturn:
    """Run what the arguments say and leave with the exit code: the installed command."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if _has_workers():
        sys.exit(code)  # which ends them, too; they would hold our output open for minutes
    os._exit(code)  # taking torch down module by module would take a tenth of a short run's time


def _has_workers() -> bool:
    """Return whether one of Hydra's launchers has left processes of its own that wait for more work."""
    multiprocessing = sys.modules.get("multiprocessing")
    return multiprocessing is not None and bool(multiprocessing.active_children())
