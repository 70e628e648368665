"""What a file of network weights says of them: the denoiser that they belong to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from pydantic import TypeAdapter, ValidationError

from workers.contract.data import DatasetManifest
from workers.contract.document import problems_of
from workers.contract.model import Preconditioning, preconditioning_difference, with_sigma_data
from workers.contract.networks import Network
from workers.contract.spec import TrainSpec
from workers.training.state import augmentation_features

FORMAT = "cdm-train weights"
_COUNTS = ("image_channels", "resolution", "num_classes", "augmentation_features")
_DESCRIBED = frozenset({"format", "network", "preconditioning", "sigma_data", *_COUNTS})
# What of a network depends on its classes; of the MLP its first layer does, with all else that this layer reads.
LABEL_TENSORS = {"ddpmpp": "map_label.", "ncsnpp": "map_label.", "adm": "map_label.", "edm2": "embed_label."}
_NETWORK: TypeAdapter[Network] = TypeAdapter(Network)
_PRECONDITIONING: TypeAdapter[Preconditioning] = TypeAdapter(Preconditioning)


@dataclass(frozen=True, slots=True)
class WeightsHeader:
    """The denoiser that weights belong to: what its network is built from, and how it is preconditioned.

    `num_classes` and `augmentation_features` count what the network is told, 0: nothing. VP and VE make no use of
    `sigma_data`. `extra` is for people: "source", "images_seen", "relative_width".
    """

    network: Network
    preconditioning: Preconditioning
    sigma_data: float
    image_channels: int
    resolution: int
    num_classes: int = 0
    augmentation_features: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: TrainSpec, images: DatasetManifest, *, sigma_data: float, extra: Mapping[str, str]) -> Self:
        """That of the weights of a training."""
        return cls(
            network=spec.network,
            preconditioning=spec.preconditioning,
            sigma_data=sigma_data,
            image_channels=images.channels,
            resolution=images.resolution,
            num_classes=images.num_classes if spec.network.class_conditional else 0,
            augmentation_features=augmentation_features(spec),
            extra=extra,
        )

    def to_metadata(self) -> dict[str, str]:
        """As a safetensors file has it: strings only."""
        return {
            **self.extra,
            "format": FORMAT,
            "network": self.network.model_dump_json(),
            "preconditioning": self.preconditioning.model_dump_json(),
            **{name: str(getattr(self, name)) for name in ("sigma_data", *_COUNTS)},
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """The inverse of `to_metadata`.

        Raises:
            ValueError: something is missing, or is not as this version writes it.
        """
        try:
            return cls(
                network=_NETWORK.validate_json(metadata["network"]),
                preconditioning=_PRECONDITIONING.validate_json(metadata["preconditioning"]),
                sigma_data=float(metadata["sigma_data"]),
                **{name: int(metadata[name]) for name in _COUNTS},
                extra={name: text for name, text in metadata.items() if name not in _DESCRIBED},
            )
        except KeyError as error:
            raise ValueError(f"it lacks {error.args[0]}") from None
        except ValidationError as error:
            raise ValueError("; ".join(map(str, problems_of(error)))) from None


def denoiser_difference(header: WeightsHeader, spec: TrainSpec, *, sigma_data: float) -> str | None:
    """The first field in which a job's denoiser is not the header's, and the mend; None if there is none.

    Dropout and the noise levels of the training may differ, and classes where the network has `LABEL_TENSORS`.
    `sigma_data` is what the job's EDM preconditioning uses.
    """
    theirs, ours = header.network.model_dump(), spec.network.model_dump()
    may_differ = {"dropout", "class_conditional"} if spec.network.kind in LABEL_TENSORS else {"dropout"}
    for name in ("kind", *theirs):  # the kind first: another one has other fields
        if name not in may_differ and theirs[name] != ours[name]:
            return _words(f"network.{name}", theirs[name], ours[name])
    made, has = header.augmentation_features, augmentation_features(spec)
    if made != has:
        mend = "set augmentation.probability" if made else "set it to null"
        return _words("augmentation", f"{made} augmentation labels", f"{has}", mend=mend)
    return _preconditioning_difference(header, spec, sigma_data)


def images_difference(header: WeightsHeader, spec: TrainSpec, images: DatasetManifest) -> str | None:
    """The same for the images that the network is for.

    Their resolution must agree even where the shapes would: a U-Net places its levels and its attention by it.
    """
    if header.image_channels != images.channels:
        return _words("dataset.channels", header.image_channels, images.channels)
    if header.resolution != images.resolution:
        return _words("dataset.resolution", header.resolution, images.resolution)
    made, has = header.num_classes, images.num_classes
    if spec.network.class_conditional and spec.network.kind not in LABEL_TENSORS and made != has:
        return _words("dataset", f"{made} classes", f"{has}", mend=f"choose an image set with {made} classes")
    return None


def _preconditioning_difference(header: WeightsHeader, spec: TrainSpec, sigma_data: float) -> str | None:
    found = preconditioning_difference(
        with_sigma_data(header.preconditioning, header.sigma_data), with_sigma_data(spec.preconditioning, sigma_data)
    )
    return _words(f"preconditioning.{found[0]}", *found[1:]) if found else None


def _words(field: str, theirs: object, ours: object, *, mend: str | None = None) -> str:
    made, has = (value if isinstance(value, str) else json.dumps(value) for value in (theirs, ours))
    mend = mend or f"set it to {made}"
    return f"{field}: initial_weights were made with {made}, the job has {has}; {mend}, or choose other initial_weights"
