"""Weights by the names of parameters: which runs save them, and fetching those that a run starts from."""

from collections.abc import Iterable

from runner.config.initial import RUNS, path_of
from runner.config.schema import Config
from runner.messages.errors import UserError
from runner.objectives import Objective
from runner.tensors.shapes import Shapes

SAVED = "weights.safetensors"


def is_saving(config: Config, objective: Objective) -> bool:
    """Return whether a single run, or the best run of a sweep, saves its weights."""
    return objective.parts is not None if config.save_weights is None else config.save_weights is not False


def saved_file(shapes: Shapes, weight: object) -> bytes:
    """Return a weight `(dim,)` as a safetensors file of the parameters, under their names and in their shapes."""
    import torch
    from safetensors.torch import save

    vector = torch.as_tensor(weight).cpu()
    return save({name: part.contiguous().clone() for name, part in shapes.by_name(vector).items()})


def fetch_starts(configs: Iterable[Config]) -> None:
    """Fetch the weights of the recorded runs that runs start from.

    Raises:
        UserError: there is no such run, or it has saved none.
    """
    starts = {
        (config.initial_weight, config.tracking.uri)
        for config in configs
        if isinstance(config.initial_weight, str) and config.initial_weight.startswith(RUNS)
    }
    for source, uri in sorted(starts, key=str):
        if uri is None:
            raise UserError(
                f"initial_weight={source}: expected tracking in the store that has the run, tracking is off"
            )
        from runner.recorder.saved_weights import fetch_weights

        fetch_weights(uri, source.removeprefix(RUNS), SAVED, path_of(source))
