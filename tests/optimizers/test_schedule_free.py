"""Schedule-free rules: what is recorded is that of the averaged weight, as the twin's `eval` gives it."""

import pytest
import schedulefree
import torch

from tests.support.descents import done, gradient_at, rosenbrock

STEPS = 12
TWINS = {"schedule_free_sgd": schedulefree.SGDScheduleFree, "schedule_free_adamw": schedulefree.AdamWScheduleFree}


@pytest.mark.parametrize("name", sorted(TWINS))
def test_loss_and_weight_are_those_of_the_average_and_the_gradient_is_not(name: str) -> None:
    weight = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = TWINS[name]([weight], lr=1e-3, warmup_steps=3, foreach=False)
    losses, averages, slopes = [], [], []
    for _ in range(STEPS):
        losses.append(float(rosenbrock(weight.detach())))
        optimizer.train()
        weight.grad = gradient_at(rosenbrock, weight)
        slopes.append(weight.grad[0].item())
        optimizer.step()
        optimizer.eval()
        averages.append(weight[0].item())
    asked = [f"optimizer={name}", "optimizer.warmup_steps=3", "objective=rosenbrock", "lr=1e-3", f"steps={STEPS}"]
    result, tracker = done(*asked, "dtype=float64")
    assert [*tracker.history("loss").values()] == pytest.approx(losses, rel=1e-12)
    assert [*tracker.history("weight/0").values()][1:] == pytest.approx(averages, rel=1e-12)
    assert [*tracker.history("gradient/0").values()] == pytest.approx(slopes, rel=1e-12)
    assert result.gradient_evaluations == STEPS
