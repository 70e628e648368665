"""Which images a job learns from, and what an imported image set says of itself."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, Strict, model_validator

from workers.contract.document import Document, Problem, refuse
from workers.contract.locations import (
    LONGEST_LOCATION,
    is_bucket_folder,
    is_path,
    is_unprotected,
    of_a_file,
    of_a_folder,
    of_files,
)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MIN_RESOLUTION, MAX_RESOLUTION = 4, 1024
Resolution = Annotated[int, Field(ge=MIN_RESOLUTION, le=MAX_RESOLUTION)]


class BuiltinDataset(Document):
    """A small image set that comes with the package; `smoke` runs and the quick start need no download."""

    kind: Literal["builtin"]
    name: Literal["fashion16"]


class ImportedDataset(Document):
    """An image set that is in the store already, by the digest that its import has told."""

    kind: Literal["imported"]
    digest: Digest


class _ImagesAtPath(Document):
    """Images of a place that the workers can read."""

    path: Annotated[str, Field(min_length=1, max_length=LONGEST_LOCATION)]
    resolution: Annotated[
        Resolution | None, Field(description="Centre-crop and resize to this; null: all alike already")
    ] = None
    channels: Annotated[Literal[1, 3], Field(description="1 = grey, 3 = RGB")] = 3


class FolderDataset(_ImagesAtPath):
    """A folder of images, of the workers' file system or of a bucket.

    Labels are the names of its top-level folders if there are several, or those of a `dataset.json` at its root.
    """

    kind: Literal["folder"]
    path: Annotated[
        str,
        Field(
            min_length=1,
            max_length=LONGEST_LOCATION,
            description="Of the workers' file system; or s3://bucket/folder/",
        ),
        AfterValidator(of_a_folder),
    ]


class _ImagesInFile(_ImagesAtPath):
    """Images in a file that the workers can read, that was uploaded, or that lies somewhere else."""

    path: Annotated[
        str,
        Field(
            min_length=1,
            max_length=LONGEST_LOCATION,
            description="Of the workers' file system; or https://, s3://, upload://ID",
        ),
        AfterValidator(of_a_file),
    ]
    sha256: Annotated[Digest | None, Field(description="Of the file; anything else is refused. null: not compared")] = (
        None
    )

    @model_validator(mode="after")
    def _is_what_was_meant(self) -> Self:
        if is_unprotected(self.path) and self.sha256 is None:
            message = "anybody on the way could change what comes by http://: give its sha256, or https://"
            refuse(Problem("/sha256", "required", message))
        return self


class ZipDataset(_ImagesInFile):
    """A ZIP of images as the StyleGAN and EDM dataset tools write it, with its labels in `dataset.json`."""

    kind: Literal["zip"]


class CifarDataset(_ImagesInFile):
    """CIFAR-10 or CIFAR-100 as they are published for Python, `cifar-10-python.tar.gz`; of the latter the fine labels.

    Their pickles are read as data: nothing in them is run.
    """

    kind: Literal["cifar"]
    split: Literal["train", "test"] = "train"


class NpzDataset(_ImagesInFile):
    """A NumPy archive with an array [images, height, width, channels] of uint8, or without the last.

    Labels are its one array of as many whole numbers, if it has one, and its one array of strings names the classes.
    """

    kind: Literal["npz"]
    images: Annotated[str | None, Field(description="Name of the array; null: the only one that holds images")] = None


class _ImagesInFiles(_ImagesInFile):
    """Images in a file, or in those of a folder whose names end with `suffix`, in the order of these names."""

    suffix: ClassVar[str]
    path: Annotated[
        str,
        Field(
            min_length=1,
            max_length=LONGEST_LOCATION,
            description="Of the workers' file system; or https://, s3://bucket/key, s3://bucket/folder/, upload://ID",
        ),
        AfterValidator(of_files),
    ]
    split: Annotated[
        str | None,
        Field(description="Of a folder, only the files SPLIT-00000-of-00010 and so on; null: they are all of one"),
    ] = None

    @model_validator(mode="after")
    def _is_one_file_or_a_folder(self) -> Self:
        is_folder = is_bucket_folder(self.path)
        if is_folder and self.sha256 is not None:
            refuse(Problem("/sha256", "no_effect", "a folder has none; set it to null"))
        if self.split is not None and not is_folder and not is_path(self.path):
            refuse(Problem("/split", "no_effect", "one file is of one split; set it to null"))
        return self


class ParquetDataset(_ImagesInFiles):
    """A Parquet file of images, or a folder of them, as Hugging Face's `datasets` writes it.

    Labels are the column `label_column`, or else the only one of class labels; several are refused.
    """

    suffix: ClassVar[str] = ".parquet"
    kind: Literal["parquet"]
    column: Annotated[str | None, Field(description="Of the images; null: the only one that holds images")] = None
    label_column: Annotated[str | None, Field(description="Of the labels; null: the only one of class labels")] = None


class WebDataset(_ImagesInFiles):
    """A tar file in the layout of WebDataset, or a folder of them: images beside `.cls`, or `.json` with a `label`."""

    suffix: ClassVar[str] = ".tar"
    kind: Literal["webdataset"]


_ToImport = BuiltinDataset | FolderDataset | ZipDataset | CifarDataset | NpzDataset | ParquetDataset | WebDataset
DatasetToImport = Annotated[_ToImport, Field(discriminator="kind")]
Dataset = Annotated[ImportedDataset | _ToImport, Field(discriminator="kind")]


class Augmentation(Document):
    """Random geometry of the training images (EDM, appendix F.2), told to the network so that it draws none of it."""

    probability: Annotated[float, Field(gt=0, le=1, description="Of each transform; flips are always half and half")]


class Shard(Document):
    """One file of raw uint8 pixels, [num_images, channels, resolution, resolution], C order."""

    name: str
    num_images: int
    sha256: Digest


class DatasetManifest(Document):
    """An imported image set. Written last and once; its digest names the content and therefore the folder."""

    digest: Digest
    num_images: int
    channels: int
    resolution: int
    classes: Annotated[tuple[str, ...] | None, Strict(False)]
    labels: Shard | None
    sigma_data: Annotated[float, Field(description="Standard deviation of all pixels scaled to [-1, 1]")]
    shards: Annotated[tuple[Shard, ...], Strict(False)]

    @property
    def num_classes(self) -> int:
        return len(self.classes or ())

    def misfit(self, *, channels: int, resolution: int) -> str | None:
        """Why a network that takes such images cannot take these; None: it can."""
        if (self.channels, self.resolution) == (channels, resolution):
            return None
        theirs, ours = (
            f"{width} pixels wide, of {depth} channels"
            for width, depth in ((self.resolution, self.channels), (resolution, channels))
        )
        return f"its images are {theirs}, the network takes them {ours}; import them again"
