"""Many runs from one command."""

from hydra.core.plugins import Plugins

from runner.sweeps.grid import GridSweeper


def register() -> None:
    """Make our sweepers known to Hydra.

    Hydra takes plugins only from `hydra_plugins`, a top-level package that a checkout of ours has not.
    """
    Plugins.instance().class_name_to_class["hydra_plugins.runner.GridSweeper"] = GridSweeper
