"""A user's own module: its parameters, its runs alone and in a batch, and what is refused."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from runner.engine.problem import prepare
from runner.messages.errors import UserError
from runner.objectives.data import load
from tests.support.descents import done, member

NETS = '''
import torch
from torch import nn
from torch.nn import functional

def mlp(hidden=8, p=0.0):
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(p), nn.Linear(hidden, 10))

def cnn():
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout2d(0.2), nn.Flatten(), nn.Linear(144, 10)
    )

class Recurrent(nn.Module):
    def __init__(self, kind="GRU", **options):
        super().__init__()
        self.layer = getattr(nn, kind)(8, 6, batch_first=True, **options)
        self.last = nn.Linear(12 if options.get("bidirectional") else 6, 10)
    def forward(self, x):
        return self.last(self.layer(x.view(-1, 8, 8))[0].mean(1))

class Attention(nn.Module):
    def __init__(self, dropout=0.1):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=dropout, batch_first=True)
        self.last = nn.Linear(8, 10)
    def forward(self, x):
        return self.last(self.layer(x.view(-1, 8, 8)).mean(1))

class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.norm, self.last = nn.Embedding(5, 6), nn.LayerNorm(6), nn.Linear(6, 10)
    def forward(self, x):
        return self.last(self.norm(self.table((x.abs() * 2).long().clamp(max=4))).mean(1))

def normed(keeps=False):
    return nn.Sequential(nn.BatchNorm1d(64, track_running_stats=keeps), nn.Linear(64, 10))

class Tied(nn.Module):
    """Two layers with one weight, a frozen bias and a buffer."""
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 64, False), nn.Linear(64, 64, False), nn.Linear(64, 10)
        self.second.weight = self.first.weight
        self.last.bias.requires_grad_(False).fill_(0.5)
        self.register_buffer("scale", torch.tensor(2.0))
    def forward(self, x):
        return self.last(self.second(self.first(x).tanh()) * self.scale)

class Other(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.last = kind, nn.Linear(64, 10)
        self.register_buffer("count", torch.zeros(()))
    def forward(self, x):
        y = self.last(x)
        if self.kind == "noisy":
            return y + torch.randn_like(y)
        if self.kind == "counting":
            self.count += 1
        if self.kind == "branching" and y.sum() > 0:
            return 2 * y
        return {"tuple": (y, y), "mean": y.mean(0), "of_all": y[:, : len(y)]}.get(self.kind, y)

def frozen():
    net = mlp()
    net[0].weight.requires_grad_(False)
    return net

def untrained():
    return mlp().requires_grad_(False)

def number():
    return 3

def one():
    return nn.Linear(64, 1)

def off(outputs, targets):
    return functional.cross_entropy(outputs, targets, label_smoothing=0.1)
'''
MODEL = ["objective=module", "allow_code=true", "objective.batch_size=16", "lr=0.01", "optimizer=adam"]


@pytest.fixture(autouse=True)
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("nets", None)
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


BATCHED = {
    "mlp": [],
    "mlp with dropout": ["+objective.arguments.p=0.3"],
    "Recurrent": [],
    "Recurrent of two layers": [
        *("+objective.arguments.kind=LSTM", "+objective.arguments.num_layers=2"),
        "+objective.arguments.bidirectional=true",
    ],
    "Attention": [],
    "Embedded": [],
    "normed": [],
    "Tied": [],
    "cnn": [],
}


def gradients(names: list[str], seeds: list[int]) -> Tensor:
    """Return the gradients of the runs of one batch at their starts."""
    runs = [member(*MODEL, *names, f"seed={seed}") for seed in seeds]
    problem = prepare(runs).problem
    inputs = problem.inputs.block(1)
    assert inputs.samples is not None
    return problem.step.loss_and_gradient(problem.start.weight, inputs.samples[0])[1]


@pytest.mark.parametrize("name", BATCHED)
def test_a_run_in_a_batch_equals_the_run_alone(name: str) -> None:
    names = [f"objective.target=nets:{name.split()[0]}", *BATCHED[name]]
    together = gradients(names, [1, 2, 3, 4, 5])
    assert together.any(-1).all()
    for row, seed in enumerate([1, 2, 3, 4, 5]):
        alone = gradients(names, [seed])[0]
        # Convolutions of a batch are computed as one of many groups.
        assert (
            torch.equal(together[row], alone)
            if name != "cnn"
            else torch.allclose(together[row], alone, rtol=1e-4, atol=1e-6 * float(alone.abs().max()))
        )


def test_a_module_descends_as_a_loop_of_torch() -> None:
    steps, run = 12, member(*MODEL, "objective.target=nets:mlp", "objective.loss=cross_entropy", "seed=3")
    result, _ = done(*MODEL, "objective.target=nets:mlp", "objective.loss=cross_entropy", "seed=3", f"steps={steps}")
    torch.manual_seed(3)
    net: nn.Module = __import__("nets").mlp()
    assert torch.equal(run.start, torch.cat([one.detach().flatten() for one in net.parameters()]))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    batches = prepare([run]).problem.inputs.block(steps).samples
    assert batches is not None
    data = run.config.objective.data
    assert data is not None
    train = load(data, torch.float32, torch.device("cpu")).train
    for samples in batches[:, 0]:
        optimizer.zero_grad()
        functional.cross_entropy(net(train.features[samples]), train.targets[samples]).backward()
        optimizer.step()
    expected = torch.cat([one.detach().flatten() for one in net.parameters()])
    assert torch.allclose(result.weight, expected, rtol=1e-5, atol=1e-6)
    assert run.objective.shapes.names == ("0.weight", "0.bias", "3.weight", "3.bias")
    assert 0 <= result.measured["held_out_accuracy"] <= 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.target=null"], "objective.target=null: expected package.module:function"),
        (["objective.target=nets:mpl"], "objective.target=nets:mpl: no function 'mpl' in nets; did you mean 'mlp'"),
        (
            ["objective.target=nets:mlp", "+objective.arguments.hiden=3"],
            "hiden=3: unknown key, .*; did you mean .*hidden",
        ),
        (["objective.target=nets:mlp", "+objective.arguments.hidden=x"], "objective.target=nets:mlp: raises TypeError"),
        (["objective.target=nets:number"], "objective.target=nets:number: returns int, expected a torch.nn.Module"),
        (
            ["objective.target=nets:Other", "+objective.arguments.kind=tuple"],
            "forward pass returns tuple, expected a tensor",
        ),
        (["objective.target=nets:Other", "+objective.arguments.kind=mean"], r"returns shape \(10,\) for 2 samples"),
        (
            ["objective.target=nets:Other", "+objective.arguments.kind=of_all"],
            r"shape \(2,\) for a sample or shape \(3,\)",
        ),
        (["objective.target=nets:Other", "+objective.arguments.kind=noisy"], "forward pass draws random numbers"),
        (["objective.target=nets:Other", "+objective.arguments.kind=counting"], "forward pass changes buffer count"),
        (
            ["objective.target=nets:normed", "+objective.arguments.keeps=true"],
            "BatchNorm1d '0' keeps running statistics",
        ),
        (
            [
                "objective.target=nets:Recurrent",
                "+objective.arguments.dropout=0.5",
                "+objective.arguments.num_layers=2",
            ],
            "GRU 'layer' has dropout=0.5 between its layers",
        ),
        (["objective.target=nets:frozen"], "0.weight is not trained but depends on the seed"),
        (["objective.target=nets:untrained"], "has no parameter that requires a gradient"),
        (["objective.target=nets:one"], "returns 1 number for a sample, expected 10 scores"),
        (
            ["objective.target=nets:mlp", "objective.loss=cross_entropi"],
            "cross_entropi: expected .*; did you mean 'cross_entropy'",
        ),
        (
            ["objective.target=nets:mlp", "objective.loss=cosine_embedding_loss"],
            "objective.loss=cosine_embedding_loss: does not fit",
        ),
        (["objective.target=nets:mlp", "objective.loss=huber_loss"], "objective.loss=huber_loss: does not fit"),
        (
            ["objective.target=nets:mlp", "optimizer=torch", "optimizer.algorithm=Muon"],
            r"for matrices, .* 0.bias \(8,\)",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        done(*MODEL, *overrides, "steps=1")
    assert len(caught.value.lines) == 1


def test_a_module_that_vmap_refuses_runs_alone_and_says_why() -> None:
    run = member(*MODEL, "objective.target=nets:Other", "+objective.arguments.kind=branching")
    assert "data-dependent control flow" in str(run.why_alone)
    result, _ = done(*MODEL, "objective.target=nets:Other", "+objective.arguments.kind=branching", "steps=3")
    assert result.steps == 3


def test_dropout_is_off_for_held_out_measures_and_drawn_by_the_seed() -> None:
    names = ["objective.target=nets:mlp", "+objective.arguments.p=0.5", "steps=5"]
    first, again, other = (done(*MODEL, *names, f"seed={seed}")[0] for seed in (1, 1, 2))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    run = member(*MODEL, *names, "seed=1")
    assert run.objective.held_out is not None
    measured = run.objective.held_out(first.weight[None])
    assert float(measured["held_out_loss"]) == pytest.approx(first.measured["held_out_loss"])


def test_a_loss_of_the_users_own_is_minimised() -> None:
    result, _ = done(
        *MODEL, "objective.target=nets:mlp", "objective.loss=nets:off", "steps=1", "objective.batch_size=null"
    )
    run = member(*MODEL, "objective.target=nets:mlp", "objective.loss=nets:off", "objective.batch_size=null")
    data = run.config.objective.data
    assert data is not None
    train, net = load(data, torch.float32, torch.device("cpu")).train, __import__("nets").mlp()
    nn.utils.vector_to_parameters(run.start, net.parameters())
    assert result.loss == pytest.approx(
        float(__import__("nets").off(net(train.features), train.targets).detach()), rel=1e-5
    )
