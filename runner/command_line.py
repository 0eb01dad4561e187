"""The command line's edge: Hydra's entry point, signals, and errors as one line and an exit code."""

import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from runner import __version__, composition, sweeps
from runner.errors import RunnerError, Terminated
from runner.job import run


def main() -> int:
    """Run what the arguments say and return the exit code: 2 for a user's mistake, 1 for a failure."""
    if sys.argv[1:] == ["--version"]:
        print(f"runner {__version__}")
        return 0
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, instead of printing a traceback and leaving with 1
    composition.install()
    sweeps.register()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        hydra.main(config_path=str(composition.config_folder()), config_name="config", version_base="1.3")(_task)()
    except RunnerError as error:
        return _tell(error.lines, error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        return _tell([composition.explain(error)], 2)
    except Terminated:
        return _tell(["terminated"], 128 + signal.SIGTERM)
    except KeyboardInterrupt:
        return _tell(["interrupted"], 128 + signal.SIGINT)
    finally:
        gc.freeze()  # else leaving takes a last collection of all of torch
    return 0


def _task(cfg: DictConfig) -> None:
    run(composition.to_config(cfg))


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _tell(lines: list[str] | tuple[str, ...], exit_code: int) -> int:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    return exit_code


def leave() -> NoReturn:
    """Run what the arguments say and leave with the exit code: the installed command."""
    sys.exit(main())
