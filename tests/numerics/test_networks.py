"""The networks: as large as the published ones, equal to their equations, and honest about what they are told."""

from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from tests.support.reference_networks import ReferenceNetwork
from tests.support.small_networks import (
    CONFIGS,
    KINDS,
    NUM_CLASSES,
    PUBLISHED,
    SHAPE,
    SIZE,
    TOLD_OF_AUGMENTATION,
    UNETS,
    config,
    inputs,
    randomised,
    small_network,
    told,
)
from workers.contract.networks import ADM, MLP, DDPMpp, NCSNpp, Network
from workers.diffusion.conditions import NO_CLASS, UNCONDITIONAL, Conditions
from workers.networks import FullyConnected, build
from workers.networks.layers import attention, heads_of, num_heads

# Sizes


@pytest.mark.parametrize(
    ("published", "resolution", "num_classes", "augmentation", "parameters", "tensors"),
    [
        (DDPMpp(kind="ddpmpp"), 32, 0, 9, 55_733_891, 417),
        (DDPMpp(kind="ddpmpp", class_conditional=True), 32, 10, 9, 55_735_299, 419),
        (DDPMpp(kind="ddpmpp"), 32, 0, 0, 55_732_739, 416),
        (DDPMpp(kind="ddpmpp", channel_multipliers=(1, 2, 2, 2)), 64, 0, 9, 61_805_571, 541),
        (DDPMpp(kind="ddpmpp", channels=32), 32, 0, 9, 3_500_963, 417),
        (NCSNpp(kind="ncsnpp"), 32, 0, 9, 56_397_827, 421),
        (NCSNpp(kind="ncsnpp", class_conditional=True), 32, 10, 9, 56_400_643, 423),
        (NCSNpp(kind="ncsnpp", channel_multipliers=(1, 2, 2, 2)), 64, 0, 9, 62_761_091, 547),
        (ADM(kind="adm", class_conditional=True), 64, 1000, 0, 295_899_267, 541),
        (ADM(kind="adm"), 32, 0, 9, 279_625_923, 541),
    ],
)
def test_the_networks_are_as_large_as_the_published_ones(
    published: DDPMpp | NCSNpp | ADM,
    resolution: int,
    num_classes: int,
    augmentation: int,
    parameters: int,
    tensors: int,
) -> None:
    with torch.device("meta"):
        network = build(
            published,
            image_channels=3,
            resolution=resolution,
            num_classes=num_classes,
            augmentation_features=augmentation,
        )

    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert len(list(network.parameters())) == tensors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "resolution"), [(1, 12), (3, 16), (5, 4)])
def test_images_of_any_size_keep_their_shape(kind: str, channels: int, resolution: int) -> None:
    changes = {} if kind == "mlp" else {"channels": 8, "attention_resolutions": (resolution // 2,)}
    network = build(config(kind, **changes), image_channels=channels, resolution=resolution, num_classes=0)
    x = torch.randn(2, channels, resolution, resolution)

    assert network(x, torch.randn(2), UNCONDITIONAL).shape == x.shape


# Equations


@pytest.mark.parametrize("kind", PUBLISHED)
@pytest.mark.parametrize("told", [True, False], ids=["labels", "nothing"])
def test_a_network_equals_its_equations(kind: str, told: bool) -> None:
    """In float64, where the epsilon of a norm shows."""
    sizes = {"channels": 64, "channel_multipliers": (1, 2, 2), "blocks_per_level": 2, "attention_resolutions": (4,)}
    network = small_network(kind, **sizes).double()
    x, c_noise = (value.double() for value in inputs())
    labels = torch.tensor([0, NO_CLASS, 2]) if told else None
    augmentation = torch.randn(3, 9).double() if told else None
    reference = ReferenceNetwork(kind, network.state_dict())

    with torch.no_grad():
        expected = reference(x, c_noise, labels, augmentation)
        actual = network(x, c_noise, Conditions(labels, augmentation))

    assert float((actual - expected).abs().max() / expected.abs().max()) < 1e-6  # frequencies are float32
    unused = {"map_augment.weight"} if not told else set()
    assert reference.used == set(network.state_dict()) - unused  # the names of the published snapshots, no others


@pytest.mark.parametrize("kind", PUBLISHED)
def test_weights_start_with_the_spread_that_the_papers_give(kind: str) -> None:
    torch.manual_seed(0)
    fresh = build(
        config(kind, channels=64, class_conditional=True), image_channels=1, resolution=SIZE, num_classes=NUM_CLASSES
    )

    def spread(name: str) -> float:
        return float(fresh.get_parameter(name).detach().std())

    if kind == "adm":
        conv, qkv, last = (3 * 9 * 64) ** -0.5, (3 * 128) ** -0.5, 0.0
        assert spread("map_label.weight") == pytest.approx(1, rel=0.1)
    else:
        conv, qkv = (2 / (9 * (64 + 64))) ** 0.5, (0.2 * 2 / (128 + 3 * 128)) ** 0.5
        last = 1e-5 * conv
    assert spread("enc.8x8_block0.conv0.weight") == pytest.approx(conv, rel=0.02)
    assert spread("enc.4x4_block0.qkv.weight") == pytest.approx(qkv, rel=0.02)
    assert spread("enc.8x8_block0.conv1.weight") == pytest.approx(last, rel=0.02)


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_is_a_softmax_over_all_pixels(heads: int) -> None:
    channels, pixels = 12 // heads, 10
    qkv = torch.randn(2, pixels, 3 * 12)
    query, key, value = qkv.view(2, pixels, 3, heads, channels).unbind(2)

    weights = torch.einsum("bqhc,bkhc->bhqk", query, key).div(channels**0.5).softmax(dim=3)
    expected = torch.einsum("bhqk,bkhc->bqhc", weights, value).reshape(2, pixels, 12)

    assert torch.allclose(attention(heads_of(qkv, heads)), expected, atol=1e-6)


def test_heads_always_divide_the_channels() -> None:
    assert [num_heads(channels, 64) for channels in (8, 64, 96, 128, 200, 576, 768)] == [1, 1, 1, 2, 2, 9, 12]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_network_predicts_nearly_nothing(kind: str) -> None:
    network = build(config(kind), image_channels=SHAPE[0], resolution=SIZE, num_classes=0)

    assert float(network(*inputs(), UNCONDITIONAL).detach().abs().max()) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind: str) -> None:
    network = small_network(kind)
    augmentation = torch.randn(3, 9) if kind in TOLD_OF_AUGMENTATION else None

    network(*inputs(), Conditions(torch.tensor([0, 1, 2]), augmentation)).square().mean().backward()

    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_a_function_of_its_arguments_and_changes_nothing_of_itself(kind: str) -> None:
    network = small_network(kind, **({} if kind == "mlp" else {"dropout": 0.1})).train()
    x, c_noise = inputs()
    conditions = told(network, batch=3, probability=0.1 if kind in UNETS else 0.0)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}

    first, again = (network(x, c_noise, conditions) for _ in range(2))

    assert torch.equal(first, again)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


def test_all_networks_of_the_contract_are_tested_here() -> None:
    union, _ = get_args(Network)

    assert {*CONFIGS.values()} == {*get_args(union)}
    assert {*KINDS} == {*CONFIGS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_compiles_as_one_graph(kind: str) -> None:
    network = small_network(kind, **({} if kind == "mlp" else {"dropout": 0.1}))
    x, c_noise = inputs()
    conditions = told(network, batch=3, probability=0.1 if kind in UNETS else 0.0)

    compiled = torch.compile(network, fullgraph=True, backend="eager")

    assert torch.allclose(compiled(x, c_noise, conditions), network(x, c_noise, conditions))


# Classes and augmentation


@pytest.mark.parametrize("kind", KINDS)
def test_the_class_matters_and_no_class_is_no_labels(kind: str) -> None:
    network = small_network(kind)
    x, c_noise = inputs()

    without = network(x, c_noise, UNCONDITIONAL)
    first, second = (network(x, c_noise, Conditions(torch.full((3,), label))) for label in (0, 1))
    no_class = network(x, c_noise, Conditions(torch.full((3,), NO_CLASS)))

    assert torch.equal(without, no_class)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, without)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unconditional_network_ignores_labels(kind: str) -> None:
    network = small_network(kind, class_conditional=False)
    x, c_noise = inputs()

    assert torch.equal(network(x, c_noise, Conditions(torch.tensor([0, 1, 2]))), network(x, c_noise, UNCONDITIONAL))


@pytest.mark.parametrize("kind", TOLD_OF_AUGMENTATION)
def test_no_augmentation_is_an_augmentation_by_nothing(kind: str) -> None:
    network = small_network(kind)
    x, c_noise = inputs()

    def given(augmentation: Tensor) -> Tensor:
        return network(x, c_noise, Conditions(augmentation=augmentation))

    assert torch.allclose(network(x, c_noise, UNCONDITIONAL), given(torch.zeros(3, 9)))
    assert not torch.allclose(network(x, c_noise, UNCONDITIONAL), given(torch.ones(3, 9)))


# MLP


def test_many_mlps_at_once_equal_each_alone() -> None:
    mlps = [randomised(FullyConnected(MLP(kind="mlp", width=16), 2, NUM_CLASSES)) for _ in range(4)]
    x, c_noise, labels = torch.randn(4, 5, 2), torch.randn(4, 5), torch.tensor([0, 1, NO_CLASS, 2, 0])

    def one(state: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, c_noise: Tensor) -> Tensor:
        return functional_call(mlps[0], (state, buffers), (x, c_noise, Conditions(labels)))

    together = vmap(one)(*stack_module_state(mlps), x, c_noise)

    alone = torch.stack([mlp(x[i], c_noise[i], Conditions(labels)) for i, mlp in enumerate(mlps)])
    assert torch.allclose(together, alone, atol=1e-6)


# Misfits


def test_a_conditional_network_needs_classes() -> None:
    with pytest.raises(ValueError, match=r"network\.class_conditional"):
        build(config("ddpmpp", class_conditional=True), image_channels=1, resolution=8, num_classes=0)


def test_the_resolution_must_halve_at_every_level() -> None:
    with pytest.raises(ValueError, match="divisible by 4, the images have 10"):
        build(config("adm", channel_multipliers=(1, 1, 1)), image_channels=1, resolution=10, num_classes=0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in TOLD_OF_AUGMENTATION])
def test_a_network_without_augmentation_labels_is_not_given_any(kind: str) -> None:
    with pytest.raises(ValueError, match="takes no augmentation labels"):
        build(config(kind), image_channels=1, resolution=8, num_classes=0, augmentation_features=9)
