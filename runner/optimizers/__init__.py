"""The update rules, by the names that configs give them."""

from runner.config.groups import OptimizerConfig
from runner.config.registry import check_arguments, look_up
from runner.messages.errors import UserError
from runner.optimizers import (  # noqa: F401  # they register rules
    adam,
    adam_variants,
    adaptive,
    adaptive_lr,
    layerwise,
    line_search,
    matrix,
    preconditioned,
    quasi_newton,
    schedule_free,
    second_order,
    sgd,
    signs,
)
from runner.optimizers.update_rule import RULES, State, UpdateRule, over_parameters
from runner.tensors.shapes import Shapes

# Hyper-parameters that a rule does not compute with if they are 0.
OPTIONAL = ("weight_decay", "adamw_weight_decay", "momentum", "dampening")
# Hyper-parameters that the runs of a batch share, as whole numbers: how often a rule repeats something.
FIXED = ("max_backtracking_steps", "max_iterations", "history_size", "ns_coefficients", "ns_steps")

__all__ = ["FIXED", "OPTIONAL", "RULES", "State", "UpdateRule", "rule_of"]


def rule_of(config: OptimizerConfig, shapes: Shapes) -> UpdateRule:
    """Return the update rule that the config group names, for weights `(rows, dim)` of these parameters.

    Raises:
        UserError: an unknown name or hyper-parameter, or a rule for matrices where there is none.
    """
    rule = look_up(RULES, config.name, "optimizer.name")
    check_arguments(rule.update, {"lr": None, **config.settings}, "optimizer")
    if rule.needs_matrix and shapes.largest < 2:
        raise UserError(f"optimizer={config.name}: is for matrices, the objective has {shapes}")
    return over_parameters(rule, shapes)
