"""Objectives from a formula, from a user's own code and from data, as runs see them."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from runner.engine.result import Result
from runner.execution.metrics import final_metrics
from runner.messages.errors import UserError
from tests.conftest import Command
from tests.support.descents import done


def test_a_formula_descends_as_the_function_of_the_registry() -> None:
    formula = 'objective.formula="(1 - x)**2 + 100*(y - x**2)**2"'
    both = ["lr=0.001", "steps=50", "initial_weight=[-1.2,1]", "dtype=float64"]
    formula_result, _ = done("objective=expression", formula, *both)
    function_result, _ = done("objective=rosenbrock", *both)
    assert torch.allclose(formula_result.weight, function_result.weight, rtol=1e-13)


def test_a_formula_may_use_constants_and_vectors() -> None:
    result, _ = done(
        "objective=expression", 'objective.formula="a*sum(w**2) + b"', "objective.constants.a=3",
        "objective.constants.b=2", "initial_weight=[1,2,3]", "lr=0.01", "steps=1", "dtype=float64",
    )  # fmt: skip
    assert result.loss == 3 * 14 + 2
    assert result.gradient.tolist() == [6.0, 12.0, 18.0]


def test_the_usual_start_sets_the_dimension_of_a_vector() -> None:
    result, _ = done("objective=expression", "objective.formula='sum(w**2)'", "objective.start=[1,2,3]", "steps=1")
    assert result.loss == 14


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.formula='x.y'"], "objective.formula=x.y: at column 1: an attribute is not allowed"),
        (["objective.formula='x + y'", "initial_weight=[1,2,3]"], "its variables are x, y, expected 3"),
        (["objective.formula='x + z'", "objective.variables=[x,y]"], "at column 5: name 'z', expected one of x, y"),
        (["objective.constants.a=b"], r"objective.constants=\{a:b\}: expected names with finite numbers"),
        (
            ["objective.formula='log(x)'", "initial_weight=-1"],
            "expected a start where objective expression is a number",
        ),
        (["objective.formula='2 + 1'"], "its variables are none, expected 1"),
        (["objective.variables=[x,x]"], r"objective.variables=\[x,x\]: expected a list of different names"),
        (["objective.variables=[x,y]", "objective.constants.x=2"], "objective.constants.x: x is a variable"),
        (["objective.constants=null"], "objective.constants=null: expected names with finite numbers"),
    ],
)
def test_a_formula_that_does_not_fit_is_reported(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        done("objective=expression", *overrides)


MINE = """
import torch

def bowl(w, *, depth=0.0):
    return ((w - 2) ** 2).sum() - depth

def rows(w):
    return ((w - 2) ** 2).sum(-1)

def picky(w):
    return (w**2).sum() if w.sum() > 0 else (w**4).sum()

def vector(w):
    return w

def number(w):
    return 3.0

def cut(w):
    return (w.detach() ** 2).sum()

def raises(w):
    raise RuntimeError("no\\nidea")

def nan(w):
    return (w * float("nan")).sum()

def turned(w):
    return torch.complex((w**2).sum(), w.sum())

def counted(w):
    return (w**2).sum().long()

class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w):
        ctx.save_for_backward(w)
        return (w**2).sum()

    @staticmethod
    def backward(ctx, g):
        if torch.is_grad_enabled():
            raise RuntimeError("once only")
        return 2 * g * ctx.saved_tensors[0]

def once(w):
    return Once.apply(w)

def leaves(w):
    raise SystemExit(3)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    name = f"mine_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def run(function: str, *overrides: str) -> Result:
        target = f"objective.target={name}:{function}"
        return done("objective=callable", "allow_code=true", target, "steps=200", "lr=0.1", *overrides)[0]

    return run


def test_a_users_function_is_minimised(mine: Callable[..., Result]) -> None:
    deep = ["initial_weight=[0,5]", "objective.arguments.depth=3"]
    assert mine("bowl", *deep).weight.tolist() == pytest.approx([2.0, 2.0])
    assert mine("bowl", *deep).loss == pytest.approx(-3.0)
    assert mine("rows", "objective.of_one_point=false").weight.tolist() == pytest.approx([2.0])
    assert mine("picky").weight.tolist() == pytest.approx([0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("bowll", "no function 'bowll' in .*; did you mean 'bowl'"),
        ("vector", r"the function returns shape \(1,\) for one point, expected \(\)"),
        ("number", "objective=callable: the function returns float, expected a tensor"),
        ("turned", "objective=callable: the function returns complex64, expected floating-point numbers"),
        ("counted", "objective=callable: the function returns int64, expected floating-point numbers"),
        (
            "leaves",
            r"the function raises RuntimeError: the function raised SystemExit\(3\)",
        ),
        ("cut", "cannot be differentiated"),
        ("raises", "the function raises RuntimeError: no idea"),
        ("nan", "expected a start where objective callable is a number, the loss there is NaN"),
    ],
)
def test_a_function_that_cannot_be_minimised_is_reported_in_one_line(
    mine: Callable[..., Result], function: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        mine(function)
    assert len(raised.value.lines) == 1
    assert "\n" not in raised.value.lines[0]


def test_a_missing_second_derivative_is_reported_if_curvature_is_requested(
    mine: Callable[..., Result],
) -> None:
    assert mine("once").weight.tolist() == pytest.approx([0.0], abs=1e-6)
    with pytest.raises(
        UserError, match=r"curvature=true: the curvature of objective callable cannot be computed: .*once"
    ):
        mine("once", "diagnostics.curvature=true")


def test_a_module_that_exits_when_imported_is_reported(runner: Command) -> None:
    (runner.folder / "leaving.py").write_text("import sys\nsys.exit(5)\n")
    failed = runner("objective=callable", "objective.target=leaving:f", "allow_code=true", "steps=2")
    assert failed.code == 2
    assert failed.errors == ["objective.target=leaving:f: cannot be imported (SystemExit: 5 (at leaving.py:2))"]
    assert runner("objective=callable", "objective.target=5", "allow_code=true", "steps=2").errors == [
        "objective.target=5: expected package.module:function"
    ]


def test_an_argument_that_a_function_does_not_take_is_reported(mine: Callable[..., Result]) -> None:
    with pytest.raises(
        UserError, match=r"objective.arguments.deep=1: unknown key, .*; did you mean 'objective.arguments.depth'"
    ):
        mine("bowl", "objective.arguments.deep=1")


def test_code_runs_only_if_the_command_line_allows_it(runner: Command) -> None:
    (runner.folder / "evil.py").write_text("open('ran', 'w')\ndef f(w): return (w**2).sum()\n")
    target = ["objective=callable", "objective.target=evil:f", "steps=2", "tracking=off"]
    done_without = runner(*target)
    assert done_without.code == 2
    assert done_without.errors == [
        "objective=callable: runs code that the config names, expected allow_code=true on the command line"
    ]
    folder = runner.folder / "more" / "experiment"
    folder.mkdir(parents=True)
    (folder / "sneaky.yaml").write_text("# @package _global_\nallow_code: true\n")
    done_sneaky = runner("--config-dir", "more", "experiment=sneaky", *target)
    assert done_sneaky.code == 2
    assert done_sneaky.errors == ["allow_code=true: not allowed in a config file, expected on the command line"]
    assert not (runner.folder / "ran").exists()
    assert runner(*target, "allow_code=true").code == 0


def test_linear_regression_finds_the_least_squares() -> None:
    from runner.config.data_settings import DataSettings
    from runner.objectives.data import load

    result, tracker = done("objective=linear_regression", "lr=0.1", "steps=8000", "log_every=8000", "dtype=float64")
    train = load(DataSettings("diabetes", 0.2), torch.float64, torch.device("cpu")).train
    features = torch.cat([train.features, torch.ones(len(train.features), 1, dtype=torch.float64)], dim=1)
    best = ((features @ torch.linalg.lstsq(features, train.targets).solution - train.targets) ** 2).mean()
    assert result.loss == pytest.approx(float(best), rel=1e-3)
    assert set(tracker.history("held_out_loss")) == {8000}


@pytest.mark.parametrize(
    ("overrides", "least"),
    [
        (["objective=logistic_regression", "lr=0.5"], 0.93),
        (["objective=logistic_regression", "objective.dataset=digits", "lr=0.5"], 0.9),
        (["objective=logistic_regression", "objective.batch_size=32", "lr=0.1"], 0.93),
        (["objective=mlp", "lr=0.5"], 0.9),
    ],
)
def test_classifiers_predict_held_out_samples(overrides: list[str], least: float) -> None:
    result, tracker = done(*overrides, "steps=150", "log_every=50")
    assert tracker.history("held_out_accuracy")[150] >= least
    assert final_metrics(result)["final/held_out_accuracy"] == tracker.history("held_out_accuracy")[150]


@pytest.mark.parametrize("overrides", [["objective=mlp"], ["gradient_noise=0.5"], ["initial_weight=random"],
                                       ["objective=logistic_regression", "objective.batch_size=8"]])  # fmt: skip
def test_a_seed_repeats_a_run_and_another_changes_it(overrides: list[str]) -> None:
    first, again, other = (done(*overrides, "steps=20", f"seed={seed}")[0].weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_gradient_noise_has_its_scale() -> None:
    _, tracker = done("gradient_noise=3", "lr=1e-9", "steps=2000", "dtype=float64")
    gradients = tracker.history("gradient")
    noise = torch.tensor([gradients[step] - 20 for step in range(1, 2001)])
    assert float(noise.std()) == pytest.approx(3, rel=0.1)
    assert abs(float(noise.mean())) < 0.3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=mlp", "objective.dataset=iris"], "objective.dataset=iris: expected one of breast_cancer, digits"),
        (["objective=linear_regression", "objective.held_out=0.0001"], "objective.held_out=0.0001: .*it holds out 0"),
        (["objective=mlp", "objective.held_out=0.9999"], "objective.held_out=0.9999: expected a share of the 1797"),
        (["objective=linear_regression", "objective.batch_size=9999"], "objective.batch_size=9999: expected 1 to 354"),
        (["objective=expression", "initial_weight=random"], "initial_weight=random: expected objective.bounds"),
        (["objective.bounds=[1,0]", "initial_weight=random"], "expected low below high, given 1 and 0"),
        (["objective.minimum=nope"], "objective.minimum=nope: at column 1: name 'nope'"),
        (["objective.start=null"], "objective.start=null: expected a number or a formula"),
        (["objective.minimum={a:1}"], r"objective.minimum=\{a:1\}: expected a number or a formula"),
        (["objective.bounds=[null,1]"], r"objective.bounds=\[null,1\]: expected \[low, high\]"),
        (["objective.minimum_at=true"], "objective.minimum_at=true: expected a number or a formula"),
        (["objective.dimension=1000000000000"], "objective.dimension=1000000000000: expected .*; at most 10,000,000"),
        (["objective.condition=3", "objective=ill_conditioned", "objective.dimension=1"], "expected at least 2"),
    ],
)
def test_unsupported_settings_of_an_objective_are_reported(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        done(*overrides)


@pytest.mark.parametrize(
    ("group", "text", "missing"),
    [
        ("objective", "name: expression\nformula: x**2\n", ["objective.variables", "objective.constants"]),
        (
            "objective",
            "name: mlp\ndataset: digits\nheld_out: 0.2\nl2: 0\n",
            ["objective.batch_size", "objective.hidden"],
        ),
        ("optimizer", "name: torch\nalgorithm: SGD\n", ["optimizer.arguments"]),
    ],
)
def test_keys_missing_in_a_users_file_are_reported(runner: Command, group: str, text: str, missing: list[str]) -> None:
    folder = runner.folder / "more" / group
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(text)
    failed = runner("--config-dir", "more", f"{group}=mine", "tracking=off", "steps=2")
    assert failed.code == 2
    assert [line.partition(": missing, expected ")[0] for line in failed.errors] == missing


def test_the_cause_of_a_divergence_is_reported() -> None:
    above, tracker = done("lr=1.1", "steps=1000", "diagnostics.curvature=true", "log_every=20")
    assert set(tracker.history("curvature").values()) == {2.0}
    assert set(tracker.history("lr_bound").values()) == {1.0}
    assert above.remark == "lr 1.1 was above the bound 2/lambda_max = 1: every step overshoots by more than it gains"
    at, _ = done("lr=1.0", "steps=100", "diagnostics.curvature=true", "log_every=20")
    assert at.remark is not None
    assert "at the bound" in at.remark
    assert abs(float(at.weight)) == 10.0


def test_a_run_that_diverges_in_the_first_step_is_explained_by_its_start() -> None:
    result, _ = done("lr=1e30", "log_every=1000", "diagnostics.curvature=true")
    assert result.remark == "lr 1e+30 was above the bound 2/lambda_max = 1: every step overshoots by more than it gains"


def test_without_positive_curvature_no_rate_is_too_large() -> None:
    asked = ["objective=expression", "lr=0.1", "steps=3", "diagnostics.curvature=true"]
    result, tracker = done(*asked, 'objective.formula="-x**2"')
    assert tracker.history("curvature")[3] == -2.0
    assert tracker.history("lr_bound")[3] == math.inf
    assert result.remark is None
