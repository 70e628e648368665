"""Dropout inside the networks: drawn once for each image, and the same wherever that is evaluated."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from tests.support.small_networks import SHAPE, UNETS, inputs, small_network, told
from workers.diffusion.conditions import UNCONDITIONAL, Conditions, draw_dropout


@dataclass
class Recorder:
    """In place of dropout: notes where it would be."""

    layers: list[int] = field(default_factory=list)
    elements: list[int] = field(default_factory=list)

    def applied(self, x: Tensor, layer: int) -> Tensor:
        self.layers.append(layer)
        self.elements.append(x[0].numel())
        return x


@pytest.mark.parametrize("kind", UNETS)
def test_every_block_has_a_dropout_layer_of_its_own(kind: str) -> None:
    network = small_network(kind, dropout=0.1)
    recorder = Recorder()

    network(*inputs(), Conditions(dropout=recorder))

    assert recorder.layers == list(range(len(recorder.layers)))
    assert len(recorder.layers) == 3 + 2 + 5  # encoder with one step down; in0 and in1; decoder with one step up
    assert max(recorder.elements) == network.dropout_elements
    assert small_network(kind).dropout_elements == 0


@pytest.mark.parametrize("kind", UNETS)
def test_evaluations_of_an_image_share_its_dropout_and_images_do_not(kind: str) -> None:
    network = small_network(kind, dropout=0.3)
    x, c_noise = torch.randn(1, *SHAPE).repeat(2, 1, 1, 1), torch.zeros(2)  # the same image twice
    conditions = told(network, batch=2, probability=0.3)

    both = network(x, c_noise, conditions)
    again = network(x.repeat(2, 1, 1, 1), c_noise.repeat(2), conditions.repeated(2))

    assert torch.allclose(again, both.repeat(2, 1, 1, 1), atol=1e-6)
    assert not torch.allclose(both[0], both[1], atol=1e-3)


@pytest.mark.parametrize("kind", UNETS)
def test_dropout_is_what_the_conditions_say_in_training_and_evaluation(kind: str) -> None:
    network = small_network(kind, dropout=0.3)
    x, c_noise = inputs()
    conditions = told(network, batch=3, probability=0.3)

    for given in (conditions, conditions.without_dropout()):
        assert torch.equal(network.train()(x, c_noise, given), network.eval()(x, c_noise, given))
    assert not torch.allclose(network(x, c_noise, conditions), network(x, c_noise, UNCONDITIONAL), atol=1e-3)


def test_as_much_is_dropped_as_was_asked_for_and_the_rest_makes_up_for_it() -> None:
    dropout = draw_dropout(torch.Generator().manual_seed(0), num_images=4, probability=0.13, largest_layer=40_000)
    assert dropout is not None

    dropped = dropout.applied(torch.ones(4, 10_000, 2, 2), layer=0)

    assert float((dropped == 0).float().mean()) == pytest.approx(0.13, abs=0.01)
    assert dropped[dropped > 0].unique().tolist() == pytest.approx([1 / 0.87])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.01)
