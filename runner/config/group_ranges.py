"""Which values the keys of objectives and optimizers take; imports no torch."""

from collections.abc import Callable, Sequence

from runner.config.data_settings import CLASSIFICATION, REGRESSION
from runner.messages.ranges import (
    COUNT,
    FLAG,
    NOT_NEGATIVE,
    POSITIVE,
    Constraint,
    at_least,
    is_finite,
    is_name,
    is_text,
    is_whole,
    number,
    one_of,
)

# Python cannot list the coordinates of more within a minute.
DIMENSION = at_least(1, "a whole number", at_most=10_000_000)


def _is_written(value: object) -> bool:
    return is_text(value) or is_whole(value) or isinstance(value, float)


def _is_nested(value: object, depth: int) -> bool:
    """Return whether `value` is a number or a formula, or a list of such values nested at most `depth` deep."""
    if isinstance(value, list) and depth > 0:
        return len(value) > 0 and all(_is_nested(item, depth - 1) for item in value)
    return _is_written(value)


WRITTEN = Constraint("a number or a formula", _is_written)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(map(is_name, value)) and len(set(value)) == len(value)


def _is_column(value: object) -> bool:
    return is_text(value) or is_whole(value)


def _are_columns(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_is_column, value))


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(COUNT.accepts, value))


MAPPING = Constraint("names with values, as in {a:1}", lambda value: isinstance(value, dict))
# The keys that these need; those of functions and update rules are in their signatures.
LEARNING = ("dataset", "held_out", "batch_size", "l2")
OBJECTIVE_REQUIRED: dict[str, tuple[str, ...]] = {
    "expression": ("formula", "variables", "constants"),
    "callable": ("target", "of_one_point", "arguments"),
    "linear_regression": LEARNING,
    "logistic_regression": LEARNING,
    "mlp": (*LEARNING, "hidden"),
    "module": (*LEARNING, "target", "arguments", "loss"),
    "cnn": (*LEARNING, "channels", "kernel_size", "stride", "activation"),
}
OPTIMIZER_REQUIRED: dict[str, tuple[str, ...]] = {
    "torch": ("algorithm", "arguments"),
    "package": ("target", "arguments"),
}
OBJECTIVE: dict[str, Constraint] = {
    "dimension": DIMENSION.or_null("that of the start"),
    "start": Constraint(f"{WRITTEN.allowed}, or a list of them", lambda value: _is_nested(value, depth=1)),
    "bounds": Constraint(
        "[low, high], or such a pair for each coordinate",
        lambda value: isinstance(value, list) and _is_nested(value, depth=2),
    ).or_null("none"),
    "minimum_at": Constraint(
        f"{WRITTEN.allowed}, or a list of them, or of such lists", lambda value: _is_nested(value, depth=2)
    ).or_null("not known"),
    "minimum": WRITTEN.or_null("not known"),
    "batch_size": COUNT.or_null("all samples"),
    "epochs": COUNT.or_null("as many as steps make"),
    "loss": Constraint("a loss of torch.nn.functional or package.module:function", is_text).or_null("the usual one"),
    "hidden": Constraint(f"{COUNT.allowed}, or a list of them", lambda value: COUNT.accepts(value) or _is_shape(value)),
    "channels": Constraint("a list of whole numbers of at least 1", _is_shape),
    "activation": one_of("tanh", "relu", "sigmoid", "silu", "gelu", "elu"),
    **dict.fromkeys(("kernel_size", "stride"), COUNT),
    "dataset": Constraint("the name of a data set, a file, or package.module:function", is_text),
    "features": Constraint("a list of columns or arrays", _are_columns).or_null("all but the target"),
    "target_column": Constraint("a column or array", _is_column).or_null("the one named target"),
    "task": one_of(REGRESSION, CLASSIFICATION).or_null("the one that the data fit"),
    "standardize": FLAG,
    "shape": Constraint("a list of whole numbers of at least 1", _is_shape).or_null("that of the data"),
    "formula": Constraint("a formula, such as (x - 1)**2", is_text),
    "of_one_point": FLAG,
    "arguments": MAPPING,
    "target": Constraint("package.module:function", lambda value: value is None or is_text(value)),
    "held_out": number("a share above 0 and below 1", lambda value: 0 < value < 1),
    "l2": NOT_NEGATIVE,
    "condition": number("a finite number of at least 1", lambda value: value >= 1),
    "variables": Constraint("a list of different names", _are_names).or_null("those found"),
    "constants": Constraint(
        "names with finite numbers",
        lambda value: isinstance(value, dict) and all(map(is_name, value)) and all(map(is_finite, value.values())),
    ),
}


def _are(count: int, accepts: Callable[[Sequence[float]], bool]) -> Callable[[object], bool]:
    def are(value: object) -> bool:
        return isinstance(value, list) and len(value) == count and all(map(is_finite, value)) and accepts(value)

    return are


def _betas(count: int, word: str) -> Constraint:
    return Constraint(
        f"{word} numbers of at least 0 and below 1", _are(count, lambda betas: all(0 <= beta < 1 for beta in betas))
    )


INSIDE = number("a number above 0 and below 1", lambda value: 0 < value < 1)
OPTIMIZER: dict[str, Constraint] = {
    **dict.fromkeys(("weight_decay", "eps", "momentum", "lr_decay", "momentum_decay"), NOT_NEGATIVE),
    **dict.fromkeys(("initial_accumulator_value", "initial_accumulator", "trust_coefficient"), NOT_NEGATIVE),
    **dict.fromkeys(("r", "weight_lr_power"), NOT_NEGATIVE),
    "warmup_steps": at_least(0, "a whole number"),
    "f_star": Constraint("a finite number", is_finite).or_null("the objective's minimum, or 0"),
    "damping": NOT_NEGATIVE,
    "p": POSITIVE,
    "update_period": COUNT,
    "hessian_distribution": one_of("gaussian", "rademacher"),
    "shampoo_beta": number("a number of at least 0 and below 1", lambda value: 0 <= value < 1).or_null("betas[1]"),
    **dict.fromkeys(("preconditioning_compute_steps", "precondition_frequency"), COUNT),
    "matrix_eps": POSITIVE,
    **dict.fromkeys(("precondition_1d", "correct_bias", "normalize_gradient"), FLAG),
    "beta2_decay": number("a finite number of at most 0", lambda value: value <= 0),
    "d": number("a finite number of at least 1", lambda value: value >= 1),
    "ns_coefficients": Constraint("three finite numbers", _are(3, lambda _: True)),
    "ns_steps": at_least(1, "a whole number", at_most=99),
    "adjust_lr_fn": one_of("original", "match_rms_adamw").or_null("original"),
    "adamw_lr": POSITIVE.or_null("lr"),
    "adamw_betas": _betas(2, "two"),
    **dict.fromkeys(("adamw_eps", "adamw_weight_decay"), NOT_NEGATIVE),
    "variant": one_of("long", "short"),
    **dict.fromkeys(("max_backtracking_steps", "max_iterations", "history_size"), COUNT),
    "line_search_fn": one_of("strong_wolfe").or_null("a fixed step"),
    **dict.fromkeys(("tolerance_grad", "tolerance_change"), NOT_NEGATIVE),
    "beta": one_of("PR+", "FR", "HS", "DY"),
    **dict.fromkeys(("slope_rtol", "decrease_factor", "c1", "c2"), INSIDE),
    "increase_factor": number("a finite number of at least 1", lambda value: value >= 1),
    **dict.fromkeys(("d0", "d_coef"), POSITIVE),
    "beta3": number("a number of at least 0 and below 1", lambda value: 0 <= value < 1).or_null("sqrt(betas[1])"),
    "growth_rate": number("a finite number above 1", lambda value: value > 1).or_null("no limit"),
    "t_alpha_beta3": POSITIVE.or_null("no rise"),
    "target": Constraint("package.module:Class", lambda value: value is None or is_text(value)),
    "algorithm": Constraint("the name of a class of torch.optim", is_text),
    "arguments": MAPPING,
    "dampening": Constraint("a finite number", is_finite),
    "alpha": NOT_NEGATIVE,
    "lambd": NOT_NEGATIVE,
    "etas": Constraint(
        "two numbers, one between 0 and 1 and one above 1", _are(2, lambda etas: 0 < etas[0] < 1 < etas[1])
    ),
    "step_sizes": Constraint(
        "two rising numbers above 0, the least and the most", _are(2, lambda sizes: 0 < sizes[0] <= sizes[1])
    ),
    "rho": number("a number from 0 to 1", lambda value: 0 <= value <= 1),
    "betas": _betas(2, "two"),
    **dict.fromkeys(("maximize", "centered", "amsgrad", "decoupled_weight_decay"), FLAG),
    **dict.fromkeys(("weight_decouple", "fixed_decay", "ams_bound", "grad_averaging", "adam", "nesterov"), FLAG),
    **dict.fromkeys(("decouple", "use_bias_correction", "safeguard_warmup"), FLAG),
}
# Where an optimizer's key takes other values than a key of the same name of the others.
OPTIMIZER_OWN: dict[str, dict[str, Constraint]] = {
    "schedule_free_sgd": {"momentum": INSIDE},
    "schedule_free_adamw": {
        "betas": Constraint(
            "two numbers below 1, the first above 0, the second at least 0",
            _are(2, lambda betas: 0 < betas[0] < 1 and 0 <= betas[1] < 1),
        )
    },
    "adafactor": {
        "eps": Constraint(
            "two numbers of at least 0, the first null for that of the dtype",
            lambda value: (
                isinstance(value, list)
                and len(value) == 2
                and (value[0] is None or (is_finite(value[0]) and value[0] >= 0))
                and is_finite(value[1])
                and value[1] >= 0
            ),
        )
    },
    "adan": {"betas": _betas(3, "three")},
    "ademamix": {"betas": _betas(3, "three")},
}
