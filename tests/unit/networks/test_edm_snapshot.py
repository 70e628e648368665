"""Snapshots of EDM and CDM become networks of ours, and nothing in them is run."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.support.edm_snapshots import write_snapshot
from tests.support.published_networks import Kind, Published, published
from tests.support.reference_networks import ReferenceNetwork
from workers.contract.model import EDM, VE, VP
from workers.diffusion.conditions import Conditions
from workers.networks import build
from workers.networks.edm_pickle import SnapshotError, read_pickle
from workers.networks.edm_snapshot import PublishedNetwork, read_snapshot

Write = Callable[..., Path]

KINDS: tuple[Kind, ...] = ("ddpmpp", "ncsnpp", "adm")
CIFAR: dict[str, Any] = {"channels": 128, "multipliers": (2, 2, 2), "blocks": 4, "resolution": 32, "attention": (16,)}
IMAGENET: dict[str, Any] = {"channels": 192, "multipliers": (1, 2, 3, 4), "blocks": 3, "resolution": 64}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a snapshot of a network with random numbers."""

    def written(network: Published, **denoiser: Any) -> Path:
        return write_snapshot(tmp_path / "network-snapshot-000001.pkl", network, network.tensors(), **denoiser)

    return written


def built(snapshot: PublishedNetwork) -> torch.nn.Module:
    network = build(snapshot.network, **snapshot.inputs.model_dump())
    network.load_state_dict(snapshot.tensors)
    return network.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_becomes_the_network_that_it_is_of(write: Write, kind: Kind) -> None:
    network = published(kind, label_dim=10, augment_dim=9)

    snapshot = read_snapshot(write(network))

    expected = {"kind": kind, "channels": 32, "channel_multipliers": (1, 4), "blocks_per_level": 1}
    expected |= {"attention_resolutions": (4,), "dropout": 0.13, "class_conditional": True}
    inputs = {"image_channels": 3, "resolution": 8, "num_classes": 10, "augmentation_features": 9}
    assert snapshot.network.model_dump() == expected
    assert snapshot.inputs.model_dump() == inputs
    built(snapshot)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_keep_their_names_and_their_numbers(write: Write, kind: Kind) -> None:
    network = published(kind)
    tensors = network.tensors()

    snapshot = read_snapshot(write(network))

    assert snapshot.tensors.keys() == {name for name in tensors if not name.endswith("resample_filter")}
    for name, tensor in snapshot.tensors.items():
        if "qkv" not in name:
            assert torch.equal(tensor, tensors[name]), name


def attended(block: dict[str, Tensor], x: Tensor, *, heads: int, epsilon: float) -> Tensor:
    """What a published attention layer adds, by the definition; its rows are ordered [heads, channels, 3]."""
    normed = functional.group_norm(x, 32, block["norm2.weight"], block["norm2.bias"], eps=epsilon)
    rows = functional.conv2d(normed, block["qkv.weight"], block["qkv.bias"])
    query, key, value = rows.reshape(len(x), heads, -1, 3, x.shape[2] * x.shape[3]).unbind(3)
    weights = torch.einsum("bhcq,bhck->bhqk", query, key / math.sqrt(query.shape[2])).softmax(dim=3)
    mixed = torch.einsum("bhqk,bhck->bhcq", weights, value).reshape(x.shape)
    return functional.conv2d(mixed, block["proj.weight"], block["proj.bias"])


@pytest.mark.parametrize(("kind", "heads", "epsilon", "gain"), [("ddpmpp", 1, 1e-6, 0.5**0.5), ("adm", 2, 1e-5, 1.0)])
def test_attention_mixes_as_it_did(write: Write, kind: Kind, heads: int, epsilon: float, gain: float) -> None:
    network = published(kind)
    theirs = {name.removeprefix("dec.4x4_in0."): tensor for name, tensor in network.tensors().items()}
    block = built(read_snapshot(write(network))).get_submodule("dec.4x4_in0")
    torch.nn.init.zeros_(block.conv1.weight)
    torch.nn.init.zeros_(block.conv1.bias)  # so that attention is all that the block does
    x = torch.randn(2, 128, 4, 4, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        ours = block(x, torch.zeros(2, 128), None)

    expected = (gain * x + attended(theirs, gain * x, heads=heads, epsilon=epsilon)) * gain
    torch.testing.assert_close(ours, expected)


def in_order_of_the_reference(tensors: dict[str, Tensor], *, heads: int) -> dict[str, Tensor]:
    """Published row (head * C + channel) * 3 + j is row (j * heads + head) * C + channel of the reference.

    It has its filters from elsewhere.
    """
    moved = {name: tensor for name, tensor in tensors.items() if not name.endswith("resample_filter")}
    for name, tensor in tensors.items():
        if ".qkv." in name:
            channels = len(tensor) // 3 // heads
            rows = torch.arange(3 * heads * channels)
            j, head, channel = rows // (heads * channels), rows // channels % heads, rows % channels
            moved[name] = tensor[(head * channels + channel) * 3 + j]
    return moved


@pytest.mark.parametrize(("kind", "heads"), [("ddpmpp", 1), ("ncsnpp", 1), ("adm", 2)])
def test_the_network_computes_what_its_source_did(write: Write, kind: Kind, heads: int) -> None:
    source = published(kind, label_dim=3, augment_dim=9)
    reference = ReferenceNetwork(kind, in_order_of_the_reference(source.tensors(), heads=heads))
    network = built(read_snapshot(write(source)))
    generator = torch.Generator().manual_seed(1)
    x, c_noise = torch.randn(4, 3, 8, 8, generator=generator), torch.randn(4, generator=generator)
    labels, augmentation = torch.tensor([0, 2, -1, 1]), torch.randn(4, 9, generator=generator)

    with torch.no_grad():
        ours = network(x, c_noise, Conditions(labels=labels, augmentation=augmentation))

    theirs = reference(x, c_noise, labels, augmentation)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert theirs.std() > 0.1


@pytest.mark.parametrize(
    ("kind", "arguments", "parameters", "entries"),
    [
        ("ddpmpp", CIFAR | {"augment_dim": 9}, 55_733_891, 425),
        ("ddpmpp", CIFAR | {"augment_dim": 9, "label_dim": 10}, 55_735_299, 427),
        ("ncsnpp", CIFAR | {"augment_dim": 9}, 56_397_827, 432),
        ("adm", IMAGENET | {"attention": (32, 16, 8), "label_dim": 1000}, 295_899_267, 553),
    ],
)
def test_the_stand_in_is_as_large_as_the_networks_that_were_published(
    kind: Kind, arguments: dict[str, Any], parameters: int, entries: int
) -> None:
    shapes = dict(published(kind, **arguments).shapes())

    learnt = (shape for name, shape in shapes.items() if name.endswith(("weight", "bias")))
    assert (sum(map(math.prod, learnt)), len(shapes)) == (parameters, entries)


def test_each_published_preconditioning_has_its_like(write: Write) -> None:
    network = published("ddpmpp")

    edm = read_snapshot(write(network, sigma_data=0.3))
    vp = read_snapshot(write(network, denoiser="VPPrecond", beta_d=10.0))
    ve = read_snapshot(write(network, denoiser="VEPrecond"))

    assert (edm.preconditioning, edm.sigma_data) == (EDM(kind="edm", sigma_data=0.3), 0.3)
    assert vp.preconditioning == VP(kind="vp", beta_d=10.0)
    assert ve.preconditioning == VE(kind="ve")


@pytest.mark.parametrize(
    ("options", "denoiser", "message"),
    [
        ({}, {"denoiser": "iDDPMPrecond"}, "its denoiser is a iDDPMPrecond; known are EDMPrecond, "),
        ({}, {"denoiser": "VPPrecond", "M": 500}, "its VPPrecond has M = 500; ours has 1000 only"),
        ({"encoder_type": "skip"}, {}, "its SongUNet has encoder_type = 'skip'; ours has 'standard' only"),
        ({"resample_filter": [1, 3, 3, 1]}, {}, r"resample_filter = \[1, 3, 3, 1\]; ours has \[1, 1\] only"),
        ({"patches": 4, "frames": 2}, {}, "its SongUNet has options that are unknown here: frames, patches"),
        ({"out_channels": 6}, {}, "its SongUNet has out_channels = 6; ours has 3 only"),
        ({"model_channels": 30}, {}, "cannot be one of ours: channels: .* multiple of 8"),
        ({"channel_mult": [1, 2, 2, 2, 2]}, {}, "do not make a network: .* 5 levels need a resolution divisible by 16"),
        ({"num_blocks": 2}, {}, "not those of its options: enc.8x8_block1.norm0.weight is missing; .* and 61 more"),
        ({"label_dim": 4}, {}, "not those of its options: map_label.weight is missing; map_label.bias is missing"),
    ],
)
def test_what_ours_do_not_have_is_refused_by_name(
    write: Write, options: dict[str, Any], denoiser: dict[str, Any], message: str
) -> None:
    network = published("ddpmpp")
    tensors = network.tensors()
    network.options.update(options)
    path = write_snapshot(write(network), network, tensors, **denoiser)

    with pytest.raises(SnapshotError, match=message):
        read_snapshot(path)


def test_a_class_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    class Other(Published):
        class_name = "DiT"

    network = Other("ddpmpp", published("ddpmpp").options)
    path = write_snapshot(tmp_path / "other.pkl", network, {})

    with pytest.raises(SnapshotError, match="its network is a DiT; known are SongUNet and DhariwalUNet"):
        read_snapshot(path)


def test_numbers_of_numpy_are_read_by_the_old_name_of_their_module_and_by_the_new(tmp_path: Path) -> None:
    new = pickle.dumps({"scale": np.sqrt(0.5), "count": np.int64(3)}, protocol=3)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "new.pkl").write_bytes(new)
    (tmp_path / "old.pkl").write_bytes(old)

    assert old != new
    assert read_pickle(tmp_path / "new.pkl") == {"scale": 0.5**0.5, "count": 3}
    assert read_pickle(tmp_path / "old.pkl") == {"scale": 0.5**0.5, "count": 3}
