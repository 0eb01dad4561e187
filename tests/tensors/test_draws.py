"""Random numbers depend on the run's seed, not on its neighbours or on how steps are blocked."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from runner.tensors.draws import MiniBatches, Noise, generator, uniform_start

SEEDS = st.lists(st.integers(0, 2**40), min_size=1, max_size=4)


@given(SEEDS, st.integers(1, 20), st.integers(1, 600))
def test_noise_of_a_run_does_not_depend_on_its_neighbours(seeds: list[int], dimension: int, steps: int) -> None:
    together = Noise(seeds, dimension, torch.float32)
    alone = Noise(seeds[-1:], dimension, torch.float32)
    taken = together.take(steps)
    assert taken.shape == (steps, len(seeds), dimension)
    one_by_one = torch.cat([alone.take(count) for count in (steps // 3, steps - steps // 3)])
    assert torch.equal(taken[:, -1], one_by_one[:, 0])


def test_noise_is_standard_normal_and_differs_from_step_to_step() -> None:
    noise = Noise([3], 50, torch.float64)
    drawn = noise.take(1000)[:, 0]
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1) < 0.02
    assert len(drawn.unique()) == drawn.numel()


@given(SEEDS, st.integers(1, 30), st.data())
def test_mini_batches_see_every_sample_once_an_epoch(seeds: list[int], samples: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, samples))
    batches = MiniBatches(seeds, samples, size)
    drawn = batches.take(3 * samples)
    for run, seed in enumerate(seeds):
        alone = MiniBatches([seed], samples, size)
        assert torch.equal(drawn[:, run], torch.cat([alone.take(count)[:, 0] for count in (samples, 2 * samples)]))
        epochs = drawn[:, run].flatten()[: samples * (drawn[:, run].numel() // samples)].view(-1, samples)
        assert torch.equal(epochs.sort().values, torch.arange(samples).expand_as(epochs))


@given(st.integers(0, 2**40), st.lists(st.tuples(st.floats(-50, 0), st.floats(1, 50)), min_size=1, max_size=8))
def test_a_random_start_is_within_the_bounds_and_repeats(seed: int, bounds: list[tuple[float, float]]) -> None:
    start = uniform_start(seed, bounds)
    low, high = torch.tensor(bounds, dtype=torch.float64).T
    assert bool(((low <= start) & (start <= high)).all())
    assert torch.equal(start, uniform_start(seed, bounds))


def test_purposes_draw_independently() -> None:
    purposes = ("start", "noise", "order", "split")
    assert len({generator(7, purpose).initial_seed() for purpose in purposes}) == len(purposes)
