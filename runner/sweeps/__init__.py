"""Many runs from one command."""

from hydra.core.plugins import Plugins

from runner.composition import spaces
from runner.sweeps.plugins import BatchedLauncher, GridSweeper
from runner.untrusted.settings import without_working_directory


def register() -> None:
    """Make our sweeper, our launcher and our spaces known to Hydra.

    Hydra takes plugins only from `hydra_plugins`, a top-level package that a checkout of ours has not.
    """
    with without_working_directory():
        plugins = Plugins.instance()
    for plugin in (GridSweeper, BatchedLauncher):
        plugins.class_name_to_class[f"hydra_plugins.runner.{plugin.__name__}"] = plugin
    spaces.register()
