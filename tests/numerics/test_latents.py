"""Noise by whose it is: normal, and no one's is another's."""

import torch

from workers.diffusion.latents import normal


def test_no_two_images_of_an_evaluation_start_from_the_same_noise() -> None:
    """150,000 of them, as EDM draws; PyTorch's generator on a CPU would give some pairs the same."""
    first = torch.stack([normal(seed, 0x0D2A3, 0, shape=(4,)) for seed in range(150_000)])

    assert len(torch.unique(first, dim=0)) == len(first)
    assert abs(float(first.mean())) < 0.005
    assert abs(float(first.var()) - 1) < 0.01


def test_the_same_numbers_in_the_same_order_give_the_same_noise_and_others_do_not() -> None:
    shape = (3, 8, 8)

    assert torch.equal(normal(5, 1, shape=shape), normal(5, 1, shape=shape))
    for other in ((1, 5), (5, 2), (5 + 2**32, 1), (5 + 2**40, 1)):
        assert not torch.equal(normal(5, 1, shape=shape), normal(*other, shape=shape))
