"""Models without code: each is torch's Sequential of the same layers, and a run in a batch is the run alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from runner.composition.composition import compose, to_config
from runner.console.run import Console
from runner.engine.batches import member_of
from runner.execution.batch import execute
from runner.execution.recording import PlannedRun
from runner.messages.errors import UserError
from runner.objectives.models import ACTIVATIONS, convolutional, perceptron
from tests.support.descents import QUIET, done

TWINS = {
    "tanh": nn.Tanh(), "relu": nn.ReLU(), "sigmoid": nn.Sigmoid(), "silu": nn.SiLU(),
    "gelu": nn.GELU(approximate="tanh"), "elu": nn.ELU(),
}  # fmt: skip


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("stride", [1, 2])
def test_models_are_torchs_layers(activation: str, stride: int) -> None:
    bend = TWINS[activation]
    layers = nn.Sequential(nn.Linear(6, 5), bend, nn.Linear(5, 4), bend, nn.Linear(4, 3))
    images = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride, 1), bend, nn.Conv2d(3, 4, 3, stride, 1), bend, nn.Flatten(),
        nn.Linear(4 * (30 if stride == 1 else 4), 3),
    )  # fmt: skip
    for twin, model, samples in (
        (layers, perceptron(6, 3, [5, 4], activation), torch.randn(2, 7, 6)),
        (images, convolutional((2, 5, 6), 3, [3, 4], 3, stride, activation), torch.randn(2, 7, 2, 5, 6)),
    ):
        weight = torch.stack([model.start(seed) for seed in (0, 1)])
        found = model.outputs(weight, samples)
        for run in (0, 1):
            twin.load_state_dict(model.shapes.by_name(weight[run]))
            torch.testing.assert_close(found[run], twin(samples[run]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "overrides",
    [
        ["objective=mlp", "objective.hidden=[9,8]", "objective.activation=relu"],
        ["objective=mlp", "objective.hidden=12", "objective.batch_size=null"],
        ["objective=cnn", "objective.channels=[4]"],
    ],
)
def test_a_run_in_a_batch_is_the_run_alone(overrides: list[str]) -> None:
    asked = ["objective.batch_size=16", *overrides, "optimizer=adam", "lr=0.01", "steps=5", "log_every=2"]
    config = to_config(compose([*QUIET, *asked]))
    members = [member_of(replace(config, seed=seed)) for seed in range(9)]
    entries: list[object] = []
    together = execute([PlannedRun(one, str(i)) for i, one in enumerate(members)], entries.append, Console(config))
    for seed in (0, 4, 8):
        alone, _ = done(*asked, f"seed={seed}")
        assert torch.equal(together[seed].weight, alone.weight)
        assert together[seed].measured == alone.measured


def test_a_convolution_can_be_differentiated_twice() -> None:
    model = convolutional((1, 5, 4), 2, [2, 1], 3, 2, "tanh")
    images = torch.randn(1, 3, 1, 5, 4, dtype=torch.float64)
    weight = model.start(0).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda point: model.outputs(point[None], images), (weight,))
    assert torch.autograd.gradgradcheck(lambda point: model.outputs(point[None], images), (weight,))


def test_a_network_learns_the_digits() -> None:
    asked = ["optimizer=adam", "lr=0.01", "objective.epochs=2", "log_every=1000"]
    for one in (["objective=cnn"], ["objective=mlp", "objective.hidden=[32,16]", "objective.batch_size=32"]):
        assert done(*one, *asked)[0].measured["held_out_accuracy"] > 0.85


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=mlp", "objective.hidden=[]"], r"hidden=\[\]: expected a whole number of at least 1, or a list"),
        (["objective=mlp", "objective.hidden=[4,0]"], r"hidden=\[4,0\]: expected a whole number of at least 1"),
        (["objective=mlp", "objective.activation=rleu"], r"activation=rleu: expected tanh, .*; did you mean 'relu'"),
        (["objective=cnn", "objective.dataset=diabetes"], r"shape=\[10\]: expected \[channels,height,width\]"),
        (["objective=cnn", "objective.shape=[1,8,9]"], r"shape=\[1,8,9\]: expected a shape of the 64 numbers"),
        (["objective=cnn", "objective.kernel_size=9"], r"shape=\[1,8,8\]: .* as objective.kernel_size=9"),
    ],
)
def test_settings_that_no_model_has_are_reported(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        done(*overrides, "steps=1")
