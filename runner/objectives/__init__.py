"""What can be minimised: the functions of the registry, and an objective made of one and its YAML."""

from runner.objectives.functions import FUNCTIONS
from runner.objectives.objective import Objective

__all__ = ["FUNCTIONS", "Objective"]
