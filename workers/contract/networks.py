"""Which network is trained. Its input shape and number of classes come from the image set."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workers.contract.document import Document, PositiveInts

Width = Annotated[int, Field(gt=0, le=4096)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class _UNet(Document):
    """What all U-Nets have: levels of falling resolution, each with blocks of the same width."""

    takes_augmentation: ClassVar[bool] = False  # is told how an image was augmented; else none may be

    kind: str
    channels: Annotated[Width, Field(multiple_of=8, description="Width of the first level")] = 128
    channel_multipliers: Annotated[PositiveInts, Field(min_length=1, max_length=8)] = (2, 2, 2)
    blocks_per_level: Annotated[int, Field(gt=0, le=8)] = 4
    attention_resolutions: Annotated[
        PositiveInts, Field(description="Levels with self-attention, by their resolution")
    ] = (16,)
    dropout: Probability = 0.0
    class_conditional: Annotated[bool, Field(description="Needs an image set with classes")] = False


class DDPMpp(_UNet):
    """DDPM++ (Song et al. 2021, arXiv 2011.13456), as EDM configures it: the usual choice up to 64x64."""

    takes_augmentation = True

    kind: Literal["ddpmpp"]


class NCSNpp(_UNet):
    """NCSN++ (same paper): Fourier noise embedding, [1,3,3,1] resampling, a residual pyramid of the input."""

    takes_augmentation = True

    kind: Literal["ncsnpp"]


class ADM(_UNet):
    """ADM (Dhariwal & Nichol 2021, arXiv 2105.05233), as EDM configures it: large and class-conditional."""

    takes_augmentation = True

    kind: Literal["adm"]
    channels: Annotated[Width, Field(multiple_of=8, description="Width of the first level")] = 192
    channel_multipliers: Annotated[PositiveInts, Field(min_length=1, max_length=8)] = (1, 2, 3, 4)
    blocks_per_level: Annotated[int, Field(gt=0, le=8)] = 3
    attention_resolutions: Annotated[
        PositiveInts, Field(description="Levels with self-attention, by their resolution")
    ] = (32, 16, 8)


class EDM2(_UNet):
    """A magnitude-preserving U-Net (Karras et al. 2024, arXiv 2312.02696)."""

    kind: Literal["edm2"]
    channel_multipliers: Annotated[PositiveInts, Field(min_length=1, max_length=8)] = (1, 2, 3, 4)
    blocks_per_level: Annotated[int, Field(gt=0, le=8)] = 3
    attention_resolutions: Annotated[
        PositiveInts, Field(description="Levels with self-attention, by their resolution")
    ] = (16, 8)


class MLP(Document):
    """Fully connected layers over all elements at once: for points of a plane and other tiny data."""

    takes_augmentation: ClassVar[bool] = False

    kind: Literal["mlp"]
    width: Width = 64
    hidden_layers: Annotated[int, Field(gt=0, le=16)] = 3
    class_conditional: Annotated[bool, Field(description="Needs an image set with classes")] = False

    @property
    def dropout(self) -> float:
        """None; so that every network can be asked."""
        return 0.0


Network = Annotated[DDPMpp | NCSNpp | ADM | EDM2 | MLP, Field(discriminator="kind")]
