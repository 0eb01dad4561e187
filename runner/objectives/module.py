"""A user's own `torch.nn.Module` as a model, with its parameters in one vector."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from runner.messages.errors import UserError
from runner.objectives.data import Data
from runner.objectives.imported import check_keywords, import_function
from runner.objectives.models import Model
from runner.process.tracebacks import described
from runner.tensors.dropout import Dropout
from runner.tensors.shapes import Shapes
from runner.tensors.torch_private import refresh_flat_weights, replaced_functions

# Numbers of samples with which the module is tried.
TRIALS = (2, 3)
SEEDS = (0, 1)


@dataclass(frozen=True)
class Builder:
    """Builds a user's module.

    Attributes:
        target: the function or class, `package.module:name`.
        arguments: of it.
    """

    target: str
    arguments: Mapping[str, Any]

    def __call__(self, seed: int) -> nn.Module:
        """Return the module, initialised under a seed.

        Raises:
            UserError: the target raises an error or returns no module.
        """
        function = import_function(self.target)
        check_keywords(function, self.arguments, given=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                module: Any = function(**self.arguments)
            except (Exception, SystemExit) as error:  # a user's function may raise anything
                raise UserError(f"{self}: raises {described(error)}") from error
        if not isinstance(module, nn.Module):
            raise UserError(f"{self}: returns {type(module).__name__}, expected a torch.nn.Module")
        for layer in module.modules():
            if isinstance(layer, nn.RNNBase):
                layer.register_forward_pre_hook(refresh_flat_weights)
        return module

    def __str__(self) -> str:
        """Return the setting as it is shown to users."""
        return f"objective.target={self.target}"


class Pass:
    """The forward pass of one run.

    Attributes:
        module: in training or in evaluation mode; its trainable parameters are those of the last pass.
        shapes: of its trainable parameters.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        trained = {name: one for name, one in module.named_parameters() if one.requires_grad}
        self.shapes = Shapes.of_tensors(trained)
        layers = list(module.modules())
        # A parameter that layers share has several places.
        self._places = [
            [(layer._parameters, name) for layer in layers for name, found in layer._parameters.items() if found is one]
            for one in trained.values()
        ]

    def __call__(self, weight: Tensor, features: Tensor, key: Tensor | None = None) -> Any:
        """Return the outputs of a weight `(dim,)` for features `(n, *sample_shape)`; `key` `()` draws the dropout."""
        return self.outputs(weight, features, None if key is None else Dropout(key))

    def outputs(self, weight: Tensor, features: Tensor, dropout: Dropout | None) -> Any:
        """Return the outputs with the given dropout, torch's own where there is none."""
        # What torch.func.functional_call does, without looking for tied parameters in each call, nor putting back.
        for places, parameter in zip(self._places, self.shapes.views(weight), strict=True):
            for parameters, name in places:
                parameters[name] = parameter  # type: ignore[assignment]  # a tensor that is no Parameter
        with replaced_functions(dropout):
            outputs = self.module(features)
        is_column = isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.shape[1] == 1
        return outputs[:, 0] if is_column else outputs


Outputs = Callable[..., Tensor]


@dataclass(frozen=True)
class Trial:
    """A few samples with which a module is tried, at the start of a seed.

    Attributes:
        weight: `(dim,)`.
        features: `(n, *sample_shape)`.
    """

    weight: Tensor
    features: Tensor

    @property
    def key(self) -> Tensor:
        """A key for the dropout."""
        return torch.tensor(1, device=self.weight.device)

    def rows(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return weight, features and key for that many equal runs."""
        return tuple(one.expand(count, *one.shape) for one in (self.weight, self.features, self.key))  # type: ignore[return-value]


def model_of_module(build: Builder, data: Data, batch_size: int | None, dtype: torch.dtype) -> Model:
    """Return the model that a user's module is.

    Args:
        build: builds the module.
        data: with which it is tried.
        batch_size: how many samples a step sees; None for all.
        dtype: of its parameters.

    Raises:
        UserError: it is no module, or one whose runs would not be independent and repeatable.
    """
    # The fast path of attention in evaluation mode cannot be batched.
    torch.backends.mha.set_fastpath_enabled(False)
    module, device = build(SEEDS[0]), data.features.device
    _check_layers(build, module)
    weights = _trainable(module)
    if not weights:
        raise UserError(f"{build}: has no parameter that requires a gradient")
    _check_seeds(build, module)
    training = Pass(module.to(device, dtype).train())
    evaluation = Pass(build(SEEDS[0]).to(device, dtype).eval())
    trial = Trial(_flat(weights).to(device, dtype), data.features[:batch_size])
    _check_outputs(build, training, [Trial(trial.weight, data.features[:count]) for count in TRIALS])
    _check_repeatable(build, training, trial)
    outputs, refusal = over_rows(training, trial)
    return Model(
        training.shapes,
        outputs,
        lambda seed: _flat(_trainable(build(seed))),
        width=_width(training, trial),
        evaluated=over_rows(evaluation, trial)[0],
        draws=_dropouts(training, trial) > 0,
        refusal=refusal,
    )


def _trainable(module: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach() for name, one in module.named_parameters() if one.requires_grad}


def _flat(parameters: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([one.flatten() for one in parameters.values()])


def _check_layers(build: Builder, module: nn.Module) -> None:
    """Check that each layer can be a pure function of its parameters and inputs."""
    for name, one in module.named_parameters():
        if nn.parameter.is_lazy(one):
            raise UserError(f"{build}: parameter {name} has no shape yet, expected layers that are given their sizes")
        if one.requires_grad and not one.is_floating_point():
            raise UserError(f"{build}: parameter {name} is {_named(one.dtype)}, expected floating-point numbers")
    for name, layer in module.named_modules():
        kind = type(layer).__name__
        if getattr(layer, "track_running_stats", False):
            raise UserError(
                f"{build}: {kind} {name!r} keeps running statistics, which runs do not have; "
                "expected track_running_stats=False, GroupNorm or LayerNorm"
            )
        if isinstance(layer, nn.RNNBase) and layer.dropout > 0 and layer.num_layers > 1:
            raise UserError(
                f"{build}: {kind} {name!r} has dropout={layer.dropout:g} between its layers, "
                "expected dropout=0 and Dropout between recurrent layers of one layer each"
            )


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_seeds(build: Builder, module: nn.Module) -> None:
    """Check that a seed alone determines what is trained, and nothing of the rest, given the first seed's module."""
    first, again, other = _every(module), _every(build(SEEDS[0])), _every(build(SEEDS[1]))
    for name, one in first.items():
        if not torch.equal(one, again[name]):
            raise UserError(f"{build}: {name} differs from call to call, expected random numbers of torch's only")
    trained = _trainable(module)
    for name, one in other.items():
        if name not in first or one.shape != first[name].shape:
            raise UserError(f"{build}: {name} has a shape that depends on the seed")
        if name not in trained and not torch.equal(one, first[name]):
            raise UserError(
                f"{build}: {name} is not trained but depends on the seed, which all runs share; "
                "expected values from a generator of its own"
            )


def _every(module: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach() for name, one in (*module.named_parameters(), *module.named_buffers())}


def _called(build: Builder, forward: Pass, trial: Trial) -> Any:
    try:
        return forward(trial.weight, trial.features, trial.key)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        shape = tuple(trial.features.shape)
        raise UserError(f"{build}: its forward pass for features of shape {shape} raises {described(error)}") from error


def _check_outputs(build: Builder, forward: Pass, trials: Sequence[Trial]) -> None:
    """Check that the outputs are a tensor with a row for each sample."""
    shapes = []
    for trial in trials:
        found, count = _called(build, forward, trial), len(trial.features)
        if not isinstance(found, Tensor):
            raise UserError(f"{build}: its forward pass returns {type(found).__name__}, expected a tensor")
        if found.shape[:1] != (count,):
            raise UserError(f"{build}: returns shape {tuple(found.shape)} for {count} samples, expected ({count}, ...)")
        if not found.is_floating_point():
            raise UserError(f"{build}: returns {_named(found.dtype)}, expected floating-point numbers")
        shapes.append(found.shape[1:])
    if shapes[0] != shapes[1]:
        raise UserError(f"{build}: returns {_each(shapes[0])} or {_each(shapes[1])}, expected the same for all samples")


def _each(shape: torch.Size) -> str:
    return f"shape {tuple(shape)} for a sample"


def _check_repeatable(build: Builder, forward: Pass, trial: Trial) -> None:
    """Check that a pass draws no random numbers but by dropout, and changes no buffer."""
    before = {name: one.clone() for name, one in forward.module.named_buffers()}
    found = []
    for seed in SEEDS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found.append(_called(build, forward, trial))
    after = dict(forward.module.named_buffers())
    for name, one in before.items():
        if not torch.equal(one, after[name]):
            raise UserError(f"{build}: its forward pass changes buffer {name}, expected one that changes nothing")
    if not torch.equal(found[0], found[1]) and not bool(found[0].isnan().any()):
        raise UserError(f"{build}: its forward pass draws random numbers, expected none but those of nn.Dropout")


def _dropouts(forward: Pass, trial: Trial) -> int:
    """Return how many times the forward pass draws a dropout."""
    dropout = Dropout(trial.key)
    forward.outputs(trial.weight, trial.features, dropout)
    return dropout.calls


def over_rows(forward: Pass, trial: Trial) -> tuple[Outputs, str | None]:
    """Return the pass for rows, and why vmap cannot batch it, if it cannot.

    It maps weights `(rows, dim)`, features `(rows, n, *sample_shape)` and keys `(rows,)` or None to `(rows, n, ...)`.
    """

    def alone(*given: Tensor) -> Tensor:
        one: Tensor = forward(*(values[0] for values in given))
        return one[None]

    def one_by_one(*given: Tensor) -> Tensor:
        return torch.cat([alone(*(values[row : row + 1] for values in given)) for row in range(len(given[0]))])

    lifted: Outputs = vmap(forward.__call__)  # a method, because vmap asks for a name in each call
    is_direct, refusal = True, None
    try:
        of_two = _gradient(lifted, trial.rows(2))
        is_equal = torch.equal(_gradient(alone, trial.rows(1)), of_two)
        # A run alone takes the path that gives the bits of a batch; if none does, the faster one.
        is_direct = is_equal or not torch.equal(_gradient(lifted, trial.rows(1)), of_two)
    except Exception as error:  # of vmap; the pass itself has been tried
        lifted, refusal = one_by_one, described(error, is_brief=True)

    def outputs(weight: Tensor, features: Tensor, key: Tensor | None = None) -> Tensor:
        given = (weight, features) if key is None else (weight, features, key)
        return alone(*given) if is_direct and len(weight) == 1 else lifted(*given)

    return outputs, refusal


def _gradient(outputs: Outputs, rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the gradient `(dim,)` of a sum over the outputs of the first row."""
    weight = rows[0].clone().requires_grad_()
    found = outputs(weight, *rows[1:])
    (gradient,) = torch.autograd.grad(found.square().sum(), weight)
    return gradient[0]


def _width(forward: Pass, trial: Trial) -> int:
    """Return how many numbers the layers return for a sample."""
    numbers = 0

    def count(_layer: nn.Module, _given: Any, found: Any) -> None:
        nonlocal numbers
        numbers += sum(
            one.numel() for one in (found if isinstance(found, tuple) else [found]) if isinstance(one, Tensor)
        )

    hooks = [layer.register_forward_hook(count) for layer in forward.module.modules()]
    forward(trial.weight, trial.features, trial.key)
    for hook in hooks:
        hook.remove()
    return numbers // len(trial.features)
