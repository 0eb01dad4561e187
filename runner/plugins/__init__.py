"""The sweeper and the launcher that Hydra finds by name."""

from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin

from runner.composition import override_functions
from runner.config.hydra_private import register_plugin
from runner.plugins.launcher import LAUNCHERS
from runner.plugins.sweeper import GridSweeper, SearchSweeper
from runner.untrusted.settings import without_working_directory


def register() -> None:
    """Register the runner's sweeper, launcher and functions in overrides with Hydra."""
    with without_working_directory():
        plugins = Plugins.instance()
    ours: tuple[type[Plugin], ...] = (GridSweeper, SearchSweeper, *LAUNCHERS)
    for plugin in ours:
        register_plugin(plugins, plugin, f"hydra_plugins.runner.{plugin.__name__}")
    override_functions.register()
