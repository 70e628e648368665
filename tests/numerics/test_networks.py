"""The networks: as large as the published ones, equal to their equations, and honest about what they are told."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from tests.support.reference_networks import ReferenceNetwork
from workers.contract.networks import ADM, EDM2, MLP, DDPMpp, NCSNpp
from workers.diffusion.conditions import NO_CLASS, NOTHING, Conditions, draw_dropout
from workers.networks import FullyConnected, Network, after_step, build
from workers.networks import magnitude as magnitudes
from workers.networks.edm2 import MagnitudePreservingUNet
from workers.networks.layers import attention, heads_of, num_heads

KINDS = ["ddpmpp", "ncsnpp", "adm", "edm2", "mlp"]
UNETS = KINDS[:4]
PUBLISHED = KINDS[:3]
CONFIGS = {"ddpmpp": DDPMpp, "ncsnpp": NCSNpp, "adm": ADM, "edm2": EDM2, "mlp": MLP}
NUM_CLASSES = 3
SIZE = 8
SHAPE = (2, SIZE, SIZE)


def config(kind: str, **changes: object) -> DDPMpp | NCSNpp | ADM | EDM2 | MLP:
    small = {"channels": 16, "channel_multipliers": (1, 2), "blocks_per_level": 1, "attention_resolutions": (4,)}
    return CONFIGS[kind].model_validate({"kind": kind, **({} if kind == "mlp" else small), **changes})


def small_network(kind: str, *, seed: int = 0, **changes: object) -> Network:
    """With all parameters drawn anew: output layers of zeros would hide every difference."""
    torch.manual_seed(seed)
    network = build(
        config(kind, **{"class_conditional": True, **changes}),
        image_channels=SHAPE[0],
        resolution=SIZE,
        num_classes=NUM_CLASSES,
        augmentation_features=9 if kind in PUBLISHED else 0,
    )
    return randomised(network)


def randomised(network: Network) -> Network:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            normal = torch.randn_like(parameter)
            if parameter.ndim > 1:
                parameter.copy_(normal / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.2 * normal + (1.0 if "norm" in name or "gain" in name else 0.0))
    return network


def inputs(batch: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, *SHAPE), torch.randn(batch)


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


@pytest.mark.parametrize(("channels", "millions"), [(64, 31.3), (128, 124.7), (192, 280.2)])
def test_edm2_is_as_large_as_the_published_one(channels: int, millions: float) -> None:
    with torch.device("meta"):
        network = build(
            EDM2(kind="edm2", channels=channels, class_conditional=True),
            image_channels=3,
            resolution=64,
            num_classes=1000,
        )

    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "resolution"), [(1, 12), (3, 16), (5, 4)])
def test_images_of_any_size_keep_their_shape(kind: str, channels: int, resolution: int) -> None:
    changes = {} if kind == "mlp" else {"channels": 8, "attention_resolutions": (resolution // 2,)}
    network = build(config(kind, **changes), image_channels=channels, resolution=resolution, num_classes=0)
    x = torch.randn(2, channels, resolution, resolution)

    assert network(x, torch.randn(2), NOTHING).shape == x.shape


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

    assert float(network(*inputs(), NOTHING).detach().abs().max()) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind: str) -> None:
    network = small_network(kind)
    augmentation = torch.randn(3, 9) if kind in PUBLISHED else None

    network(*inputs(), Conditions(torch.tensor([0, 1, 2]), augmentation)).square().mean().backward()

    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


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

    without = network(x, c_noise, NOTHING)
    first, second = (network(x, c_noise, Conditions(torch.full((3,), label))) for label in (0, 1))
    no_class = network(x, c_noise, Conditions(torch.full((3,), NO_CLASS)))

    assert torch.equal(without, no_class)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, without)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unconditional_network_ignores_labels(kind: str) -> None:
    network = small_network(kind, class_conditional=False)
    x, c_noise = inputs()

    assert torch.equal(network(x, c_noise, Conditions(torch.tensor([0, 1, 2]))), network(x, c_noise, NOTHING))


@pytest.mark.parametrize("kind", PUBLISHED)
def test_no_augmentation_is_an_augmentation_by_nothing(kind: str) -> None:
    network = small_network(kind)
    x, c_noise = inputs()

    def given(augmentation: Tensor) -> Tensor:
        return network(x, c_noise, Conditions(augmentation=augmentation))

    assert torch.allclose(network(x, c_noise, NOTHING), given(torch.zeros(3, 9)))
    assert not torch.allclose(network(x, c_noise, NOTHING), given(torch.ones(3, 9)))


# Dropout


@dataclass
class Recorder:
    """In place of dropout: notes where it would be."""

    layers: list[int] = field(default_factory=list)
    elements: list[int] = field(default_factory=list)

    def applied(self, x: Tensor, layer: int) -> Tensor:
        self.layers.append(layer)
        self.elements.append(x[0].numel())
        return x


def told(network: Network, *, batch: int, probability: float) -> Conditions:
    generator = torch.Generator().manual_seed(0)
    dropout = draw_dropout(generator, num_images=batch, probability=probability, largest_layer=network.dropout_elements)
    return Conditions(dropout=dropout)


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
    assert not torch.allclose(network(x, c_noise, conditions), network(x, c_noise, NOTHING), atol=1e-3)


# EDM2


def test_the_parts_of_edm2_keep_the_magnitude_of_normal_numbers() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(64, 30, 20, 20), torch.randn(64, 10, 20, 20)

    def magnitude(x: Tensor) -> float:
        return float(x.detach().square().mean().sqrt())

    joined = magnitudes.concatenated(a, b)
    for kept in (
        magnitudes.silu(a),
        magnitudes.weighted_sum(a, torch.randn_like(a), 0.3),
        magnitudes.with_unit_pixels(3 * a),
        magnitudes.UnitLayer(30, 512, 1)(a),
        magnitudes.FourierFeatures(4096)(torch.randn(64)),
        joined,
    ):
        assert magnitude(kept) == pytest.approx(1, rel=0.02)
    assert joined[:, :30].square().sum() == pytest.approx(float(joined[:, 30:].square().sum()), rel=0.02)


def test_edm2_keeps_the_magnitude_of_what_passes_through() -> None:
    torch.manual_seed(0)
    edm2 = config("edm2", channels=64, channel_multipliers=(1, 2, 2), blocks_per_level=2, class_conditional=True)
    network = build(edm2, image_channels=3, resolution=16, num_classes=NUM_CLASSES)
    assert isinstance(network, MagnitudePreservingUNet)
    noted = {}

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        noted[module] = float(output.square().mean().sqrt())

    for block in [network.first, *network.encoder.values(), *network.decoder.values(), network.embed_noise]:
        block.register_forward_hook(note)

    with torch.no_grad():
        network(torch.randn(8, 3, 16, 16), torch.randn(8), Conditions(torch.randint(NUM_CLASSES, (8,))))

    assert len(noted) == 1 + 8 + 13 + 1
    assert all(0.8 < magnitude < 1.25 for magnitude in noted.values()), sorted(noted.values())


def test_forced_normalisation_of_edm2_changes_weights_and_no_output() -> None:
    network = small_network("edm2")
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    x, c_noise = inputs()
    before = network(x, c_noise, NOTHING)

    after_step(nn.Sequential(network))  # also inside another module

    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    for weight in weights:
        norms = weight.flatten(1).norm(dim=1) / weight[0].numel() ** 0.5
        assert torch.allclose(norms, torch.ones(len(weight)), atol=1e-3)
    assert torch.allclose(network(x, c_noise, NOTHING), before, rtol=1e-3, atol=1e-4)


def test_other_networks_are_left_alone_after_a_step() -> None:
    network = small_network("ddpmpp")
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}

    after_step(network)

    assert all(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())


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


@pytest.mark.parametrize("kind", ["edm2", "mlp"])
def test_a_network_without_augmentation_labels_is_not_given_any(kind: str) -> None:
    with pytest.raises(ValueError, match="takes no augmentation labels"):
        build(config(kind), image_channels=1, resolution=8, num_classes=0, augmentation_features=9)
