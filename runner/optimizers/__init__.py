"""The update rules, by the names that configs give them."""

from runner.config.groups import OptimizerConfig
from runner.config.registry import check_arguments, look_up
from runner.optimizers import (  # noqa: F401  # they register rules
    adam,
    adam_variants,
    adaptive,
    layerwise,
    schedule_free,
    sgd,
    signs,
)
from runner.optimizers.update_rule import RULES, State, UpdateRule

# Hyper-parameters that a rule does not compute with if they are 0.
OPTIONAL = ("weight_decay", "momentum", "dampening")

__all__ = ["OPTIONAL", "RULES", "State", "UpdateRule", "rule_of"]


def rule_of(config: OptimizerConfig) -> UpdateRule:
    """Return the update rule that the config group names.

    Raises:
        UserError: an unknown name or hyper-parameter.
    """
    rule = look_up(RULES, config.name, "optimizer.name")
    check_arguments(rule.update, {"lr": None, **config.settings}, "optimizer")
    return rule
