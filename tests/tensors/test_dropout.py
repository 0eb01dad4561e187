"""Dropout of a run's own key: its share, its scale, and its independence of the other runs."""

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from runner.tensors.draws import MiniBatches
from runner.tensors.dropout import Dropout, attention_with


def key(number: int) -> Tensor:
    return torch.tensor(number)


@pytest.mark.parametrize("p", [0.0, 0.001, 0.25, 0.5, 0.9, 1.0])
def test_the_share_of_dropped_numbers_is_p_and_the_mean_stays(p: float) -> None:
    found = Dropout(key(2**61 + 5)).of_elements(torch.ones(300, 1000), p)
    assert float((found == 0).float().mean()) == pytest.approx(p, abs=0.003)
    if p < 1:
        assert found[found != 0].unique().tolist() == [pytest.approx(1 / (1 - p))]


def test_keys_calls_rows_and_columns_are_not_correlated() -> None:
    first = Dropout(key(7))
    masks = [first.kept((512, 512), 0.5), first.kept((512, 512), 0.5), Dropout(key(8)).kept((512, 512), 0.5)]
    masks += [masks[0].roll(1, 0), masks[0].roll(1, 1), masks[0].T, Dropout(key(7 + 2**31)).kept((512, 512), 0.5)]
    signs = torch.stack([mask.double().flatten() * 2 - 1 for mask in masks])
    correlation = signs @ signs.T / signs.shape[1]
    assert float((correlation - torch.eye(len(masks))).abs().max()) < 5 / 512


def test_a_run_in_a_batch_drops_the_same_numbers_as_alone() -> None:
    values, keys = torch.randn(5, 40, 3), torch.randint(2**62, (5,))
    together = vmap(lambda one, key: Dropout(key).of_elements(one, 0.4))(values, keys)
    for row in range(5):
        assert torch.equal(together[row], Dropout(keys[row]).of_elements(values[row], 0.4))


def test_whole_channels_are_dropped() -> None:
    found = Dropout(key(3)).of_channels(2)(torch.ones(64, 8, 5, 5), 0.5)
    each = found.flatten(2)
    assert torch.equal(each.amin(-1), each.amax(-1))
    assert 0.3 < float((each[..., 0] == 0).float().mean()) < 0.7


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"attn_mask": torch.rand(6, 6) > 0.3}, {"scale": 0.7}])
def test_attention_without_dropout_is_torch_s(options: dict[str, object]) -> None:
    query, keys, values = (torch.randn(2, 3, 6, 4, dtype=torch.float64) for _ in range(3))
    if "attn_mask" in options:
        options = {"attn_mask": torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) > 0.3}
    expected = functional.scaled_dot_product_attention(query, keys, values, **options)  # type: ignore[arg-type]
    assert torch.allclose(attention_with(None)(query, keys, values, **options), expected)


def test_the_key_of_a_step_depends_on_the_seed_and_the_step_alone() -> None:
    together = MiniBatches([3, 4], 10, 4, is_keyed=True).take(30)
    alone = MiniBatches([4], 10, 4, is_keyed=True)
    one_by_one = torch.cat([alone.take(count) for count in (1, 16, 13)])
    assert torch.equal(together[:, 1], one_by_one[:, 0])
    assert torch.equal(together[..., :-1], MiniBatches([3, 4], 10, 4).take(30))
    assert len(together[..., -1].unique()) == 60
