"""Many runs from one command."""

from hydra.core.plugins import Plugins

from runner.sweeps import language
from runner.sweeps.grid import BatchedLauncher, GridSweeper


def register() -> None:
    """Make our sweeper, our launcher and our spaces known to Hydra.

    Hydra takes plugins only from `hydra_plugins`, a top-level package that a checkout of ours has not.
    """
    for plugin in (GridSweeper, BatchedLauncher):
        Plugins.instance().class_name_to_class[f"hydra_plugins.runner.{plugin.__name__}"] = plugin
    language.register()
