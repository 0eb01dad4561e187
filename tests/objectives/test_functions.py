"""Every objective of the registry is compared with the declarations in its YAML file."""

import pytest
import torch
from omegaconf import OmegaConf

from runner.composition.composition import config_folder
from runner.config.groups import ObjectiveConfig
from runner.messages.errors import UserError
from runner.objectives import KINDS, Objective, ObjectiveSpec, objective_of
from runner.objectives.functions import FUNCTIONS

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.float64)
# The kinds that a function of the registry does not make.
OTHERS = {"expression", "callable", "linear_regression", "logistic_regression", "mlp", "cnn", "module"}


def objective(name: str, dtype: torch.dtype = torch.float64, **changed: object) -> Objective:
    settings = OmegaConf.to_container(OmegaConf.load(config_folder() / "objective" / f"{name}.yaml"))
    assert isinstance(settings, dict)
    config = ObjectiveConfig.from_tree({str(key): value for key, value in settings.items()} | changed)
    return objective_of(ObjectiveSpec(config, None, dtype, CPU))


def loss(made: Objective, weight: torch.Tensor) -> torch.Tensor:
    return made.function(weight, None, **made.parameters_for(weight))


def dimensions(name: str) -> list[int]:
    function = FUNCTIONS[name]
    return [function.smallest] if function.largest is not None else [function.smallest, 3, 7]


CASES = [(name, dimension) for name in FUNCTIONS for dimension in dimensions(name)]


def test_every_objective_has_a_file_and_every_file_an_objective() -> None:
    files = {path.stem for path in (config_folder() / "objective").glob("*.yaml")}
    assert files == set(KINDS) == set(FUNCTIONS) | OTHERS


@pytest.mark.parametrize(("name", "dimension"), CASES)
def test_the_minimum_is_where_and_what_is_declared(name: str, dimension: int) -> None:
    made = objective(name, dimension=dimension)
    points = torch.tensor(made.known.minimum_at, dtype=torch.float64).requires_grad_()
    assert made.known.minimum is not None
    scale = max(1.0, abs(made.known.minimum))
    values = loss(made, points)
    assert values.tolist() == pytest.approx([made.known.minimum] * len(points), rel=1e-12, abs=1e-12 * scale)
    (gradient,) = torch.autograd.grad(values.sum(), points)
    assert float(gradient.abs().max()) < 1e-7 * scale


@pytest.mark.parametrize(("name", "dimension"), CASES)
def test_no_point_within_the_bounds_is_lower_than_the_minimum(name: str, dimension: int) -> None:
    made = objective(name, dimension=dimension)
    generator = torch.Generator().manual_seed(dimension)
    low, high = torch.tensor(made.known.bounds, dtype=torch.float64).T
    anywhere = low + (high - low) * torch.rand(4000, dimension, dtype=torch.float64, generator=generator)
    points = torch.tensor(made.known.minimum_at, dtype=torch.float64)
    nearby = points.repeat(500, 1) + 1e-3 * torch.randn(500 * len(points), dimension, generator=generator)
    assert made.known.minimum is not None
    least = made.known.minimum - 1e-12 * max(1.0, abs(made.known.minimum))
    assert float(loss(made, torch.cat([anywhere, nearby])).min()) >= least
    start = torch.tensor(made.known.start)
    assert bool(((low <= start) & (start <= high)).all())
    assert bool(((low <= points) & (points <= high)).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "dimension"), CASES)
def test_a_batch_of_any_shape_is_its_points_and_vmap_agrees(name: str, dimension: int, dtype: torch.dtype) -> None:
    made = objective(name, dtype, dimension=dimension)
    low, high = torch.tensor(made.known.bounds, dtype=dtype).T
    generator = torch.Generator().manual_seed(1)
    weight = low + (high - low) * torch.rand(64, dimension, dtype=dtype, generator=generator)
    together = loss(made, weight)
    assert together.shape == (64,)
    assert together.dtype == dtype
    for run in (0, 31, 63):  # alone in a padded batch of its own
        assert torch.equal(loss(made, weight[run].expand(64, -1).contiguous())[0], together[run])
    function = FUNCTIONS[name].loss
    parameters = {key: torch.tensor(value, dtype=dtype) for key, value in made.parameters.items()}
    lifted = torch.func.vmap(lambda point: function(point, **parameters))(weight)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    assert torch.allclose(lifted, together, rtol=tolerance, atol=tolerance)
    assert function(weight.view(4, 16, dimension), **parameters).shape == (4, 16)


@pytest.mark.parametrize(("name", "given"), [("booth", 3), ("rosenbrock", 1), ("ill_conditioned", 1)])
def test_a_dimension_that_a_function_does_not_have_is_reported(name: str, given: int) -> None:
    with pytest.raises(UserError, match=rf"objective.dimension={given}: expected (at least )?2 for objective {name}"):
        objective(name, dimension=given)


def test_the_condition_number_is_that_of_the_hessian() -> None:
    from runner.engine.curvature import hessian_products

    made = objective("ill_conditioned", dimension=5, condition=1000.0)
    hessian = hessian_products(lambda w: loss(made, w), torch.ones(5, dtype=torch.float64), torch.eye(5).double())
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert float(eigenvalues[-1] / eigenvalues[0]) == pytest.approx(1000.0)
    assert float(eigenvalues[0]) == pytest.approx(1.0)


def test_ackley_has_a_gradient_at_its_point() -> None:
    weight = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(objective("ackley", dimension=3), weight).sum(), weight)
    assert torch.equal(gradient, torch.zeros_like(gradient))
