"""Which features of images their distances are measured in, and what those distances are called."""

import json
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field

from workers.contract.data import Digest
from workers.contract.document import Document
from workers.contract.locations import NamedFile

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Of `pt_inception-2015-12-05-6726825d.pth`, as pytorch-fid, torch-fidelity and torchmetrics publish it.
FID_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class Lite0(Document):
    """Those of EfficientNet-Lite0, which comes with the package. Distances in them are no FID, and never called so."""

    kind: Literal["lite0"]

    @property
    def frechet_name(self) -> str:
        """What the Fréchet distance in these features is called."""
        return "FD-ENL0"

    @property
    def kernel_name(self) -> str:
        """What the kernel distance in these features is called."""
        return "KD-ENL0"

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides on the features: numbers compare only where it is the same."""
        return _digest(self.kind, LITE0_SHA256, "antialiased bicubic to 128, clamped", "(x - 127) / 128", "pool 1280")


class Inception(Document):
    """Those of the Inception network of 2015 that FID is defined by (Heusel et al. 2017), from a file of yours."""

    kind: Literal["inception"]
    weights: Annotated[
        NamedFile,
        Field(
            description="pt_inception-2015-12-05-6726825d.pth of pytorch-fid or torch-fidelity: a path of the "
            "workers; or https://, s3://, upload://ID"
        ),
    ]
    sha256: Annotated[Digest, Field(description="Of that file; with any other than the published one, nothing is FID")]

    @property
    def frechet_name(self) -> str:
        """FID, if the weights are the published ones."""
        return "FID" if self.sha256 == FID_SHA256 else "FD-Inception"

    @property
    def kernel_name(self) -> str:
        """KID, if the weights are the published ones."""
        return "KID" if self.sha256 == FID_SHA256 else "KD-Inception"

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides on the features, wherever the file lies."""
        return _digest(self.kind, self.sha256, "TensorFlow 1 bilinear to 299", "(x - 128) / 128", "pool3 2048")


Features = Annotated[Lite0 | Inception, Field(discriminator="kind")]


def _digest(kind: str, weights: str, resize: str, scale: str, layer: str) -> str:
    rules = {"kind": kind, "weights": weights, "resize": resize, "scale": scale, "layer": layer}
    return sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()
