"""What can be minimised: objectives by the names that configs give them."""

from runner.objectives.objective import KINDS, Objective, ObjectiveSpec, objective_of, parameters_of, start_point

__all__ = ["KINDS", "Objective", "ObjectiveSpec", "objective_of", "parameters_of", "start_point"]
