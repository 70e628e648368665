"""Every kind of image file becomes the pixels its owner sees."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.support.pictures import encoded, imported, picture, write_folder
from workers.contract.data import FolderDataset
from workers.data import DatasetError


def pixels_of(data: bytes, folder: Path, *, channels: Literal[1, 3] = 3, resolution: int | None = None) -> np.ndarray:
    """The pixels [H, W, C] of a file after import. A neighbour keeps the data set from being of one colour."""
    side = resolution or 8
    path = write_folder(folder / "pictures", {"a.png": data, "b.png": encoded(picture(99, size=(side, side)))})
    dataset = FolderDataset(kind="folder", path=path, channels=channels, resolution=resolution)
    return imported(dataset, folder / "cache").images[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("png", {}),
        ("bmp", {}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("ppm", {}),
        ("webp", {"lossless": True}),
    ],
)
def test_lossless_formats_keep_every_pixel(tmp_path: Path, kind: str, options: dict[str, object]) -> None:
    image = picture(1)

    assert np.array_equal(pixels_of(encoded(image, kind, **options), tmp_path), np.asarray(image))


def test_a_jpeg_is_close_to_what_was_drawn(tmp_path: Path) -> None:
    image = Image.linear_gradient("L").resize((8, 8)).convert("RGB")

    difference = pixels_of(encoded(image, "jpeg", quality=95), tmp_path).astype(int) - np.asarray(image)

    assert abs(difference).max() < 8


def test_the_orientation_that_a_camera_noted_is_applied(tmp_path: Path) -> None:
    image = picture(1)
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the picture is at the right of the file

    found = pixels_of(encoded(image, exif=exif), tmp_path)

    assert np.array_equal(found, np.rot90(np.asarray(image), k=-1))


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_turned_as_pillow_does(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(1), kind, exif=exif)

    upright = ImageOps.exif_transpose(Image.open(BytesIO(data)))

    assert np.array_equal(pixels_of(data, tmp_path), np.asarray(upright))


def test_damaged_tags_beside_the_orientation_do_no_harm(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    tags = exif.tobytes()
    is_a_fraction, is_a_text = (struct.pack(">HH", 0x011A, kind) for kind in (5, 2))
    assert is_a_fraction in tags

    found = pixels_of(encoded(picture(1), exif=tags.replace(is_a_fraction, is_a_text)), tmp_path)

    assert np.array_equal(found, np.rot90(np.asarray(picture(1)), k=-1))


def test_of_tags_that_cannot_be_read_none_turns_the_picture(tmp_path: Path) -> None:
    data = encoded(picture(1), exif=b"Exif\0\0 no tags at all")

    assert np.array_equal(pixels_of(data, tmp_path), np.asarray(picture(1)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 4, 8))
    data = encoded(image.convert(mode)) if mode != "P" else encoded(image.quantize(4))

    found = pixels_of(data, tmp_path)

    assert (found[:, :4] == 255).all()
    assert (found[:, 4:] == 0).all()


def test_half_transparent_pixels_are_mixed_with_white(tmp_path: Path) -> None:
    data = encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 128)))

    assert pixels_of(data, tmp_path)[0, 0].tolist() == [255, 127, 127]


def test_a_palette_a_grey_and_a_two_colour_image_become_rgb(tmp_path: Path) -> None:
    grey = picture(1, channels=1)
    expected = np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)

    assert np.array_equal(pixels_of(encoded(grey), tmp_path), expected)
    assert np.array_equal(pixels_of(encoded(grey.convert("P")), tmp_path), expected)
    black_and_white = grey.convert("1")
    assert set(np.unique(pixels_of(encoded(black_and_white), tmp_path))) == {0, 255}


def test_a_grey_image_stays_as_it_is_in_one_channel(tmp_path: Path) -> None:
    grey = picture(1, channels=1)

    found = pixels_of(encoded(grey), tmp_path, channels=1)

    assert np.array_equal(found[:, :, 0], np.asarray(grey))


def test_a_colour_image_becomes_its_luminance_in_one_channel(tmp_path: Path) -> None:
    data = encoded(Image.new("RGB", (8, 8), (0, 255, 0)))

    assert pixels_of(data, tmp_path, channels=1)[0, 0].tolist() == [150]


def test_inks_become_colours(tmp_path: Path) -> None:
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "tiff")

    assert pixels_of(data, tmp_path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm"])
def test_sixteen_bits_are_rounded_to_eight_and_not_cut_off(tmp_path: Path, kind: str) -> None:
    shades = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024 + 200

    found = pixels_of(encoded(Image.fromarray(shades), kind), tmp_path, channels=1)

    assert np.array_equal(found[:, :, 0], np.round(shades / 257).astype(np.uint8))


def test_a_picture_of_the_right_size_is_not_resampled(tmp_path: Path) -> None:
    image = picture(1)

    assert np.array_equal(pixels_of(encoded(image), tmp_path, resolution=8), np.asarray(image))


def test_the_middle_of_a_wide_and_of_a_tall_picture_is_kept(tmp_path: Path) -> None:
    wide, tall = picture(1, size=(12, 8)), picture(2, size=(8, 11))

    assert np.array_equal(pixels_of(encoded(wide), tmp_path, resolution=8), np.asarray(wide)[:, 2:10])
    assert np.array_equal(pixels_of(encoded(tall), tmp_path, resolution=8), np.asarray(tall)[1:9])


def test_a_large_picture_is_resized_as_lanczos_does(tmp_path: Path) -> None:
    image = picture(1, size=(32, 32))

    found = pixels_of(encoded(image), tmp_path, resolution=8)

    assert np.array_equal(found, np.asarray(image.resize((8, 8), Image.Resampling.LANCZOS)))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"no picture at all", "is not an image of a known format"),
        (encoded(picture(1))[:120], "cannot be decoded"),
        (encoded(picture(1, size=(64, 64)), "jpeg")[:900], "cannot be decoded: .*truncated"),
        (encoded(picture(1))[:60] + b"x" + encoded(picture(1))[61:], "cannot be decoded"),
        (encoded(picture(1, size=(8, 9))), "is 8 x 9 pixels, not square"),
        (encoded(picture(1, size=(3, 3))), "is 3 x 3 pixels, which is not within 4 to 1024"),
        (encoded(Image.new("F", (8, 8), 0.5), "tiff"), "has pixels of the unusual kind F"),
        (encoded(Image.new("I", (8, 8), 1 << 20), "tiff"), "has 32-bit pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "is not an image of a known format"),
    ],
    ids=["empty", "text", "cut png", "cut jpeg", "flipped byte", "oblong", "tiny", "floats", "32 bits", "postscript"],
)
def test_an_image_that_cannot_be_used_is_named_with_its_problem(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(DatasetError, match=rf"(?s)cannot be used: 1; .*'a\.png' {problem}"):
        pixels_of(data, tmp_path)


def test_an_image_that_unpacks_to_a_huge_one_is_named_before_it_does(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"'a\.png' has more than 89,478,485 pixels"):
        pixels_of(_bomb(10_000, 10_000), tmp_path, resolution=8)


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
def test_what_pillow_only_warns_of_is_refused_too(tmp_path: Path) -> None:
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(DatasetError, match=r"'a\.png' has more than 89,478,485 pixels"),
    ):
        pixels_of(_bomb(10_000, 10_000), tmp_path, resolution=8)


def _bomb(width: int, height: int) -> bytes:
    """The header of a PNG of that size; what follows is of no interest to those who look at the header first."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
