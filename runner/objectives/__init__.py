"""What can be minimised."""

from runner.objectives.objective import KINDS, Objective, Request, objective_of, parameters_of, start_point

__all__ = ["KINDS", "Objective", "Request", "objective_of", "parameters_of", "start_point"]
