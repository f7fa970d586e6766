"""Pictures of every mode and size come out upright, RGB, bounded, and bare."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model_chat.images import pictures
from model_chat.images.pictures import UnreadablePictureError, content_hash, encode, fit, read_picture, upright_rgb


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = upright_rgb(Image.new(mode, (5, 3)))
    assert (image.mode, image.size) == ("RGB", (5, 3))


def test_cmyk_keeps_its_colour() -> None:
    red = read_picture(file_of(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    r, g, b = red.getpixel((8, 8))  # type: ignore[misc]  # RGB has three
    assert r > 200
    assert g < 80
    assert b < 80


def test_what_is_transparent_is_white_not_the_colour_behind_it() -> None:
    for image in (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), Image.new("LA", (2, 2), (0, 0))):
        assert upright_rgb(image).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    assert read_picture(file_of(palette, "PNG")).getpixel((0, 0)) == (200, 0, 0)
    assert read_picture(file_of(palette, "PNG", transparency=1)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_greys_are_scaled_and_not_clipped() -> None:
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    image = read_picture(file_of(Image.fromarray(values), "PNG"))
    assert [image.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (128, 128, 128), (255, 255, 255)]
    shares = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert [upright_rgb(shares).getpixel((x, 0)) for x in (0, 2)] == [(0, 0, 0), (255, 255, 255)]


def test_a_picture_is_turned_as_its_exif_says_and_loses_its_exif() -> None:
    picture = Image.new("RGB", (40, 20), "white")
    picture.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show
    exif[0x010F] = "the owner's camera"
    upright = read_picture(file_of(picture, "JPEG", exif=exif, quality=95))
    assert upright.size == (20, 40)
    r, g, _ = upright.getpixel((10, 5))  # type: ignore[misc]  # RGB has three
    assert r > 200 > 60 > g
    content, _ = encode(upright)
    assert b"camera" not in content
    assert not Image.open(io.BytesIO(content)).getexif()


def test_text_in_a_png_is_left_out() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Author", "somebody")
    content, suffix = encode(read_picture(file_of(Image.new("RGB", (4, 4)), "PNG", pnginfo=info)))
    assert suffix == ".png"
    assert b"somebody" not in content


def test_a_picture_of_6000_pixels_is_scaled_down() -> None:
    image = fit(read_picture(file_of(Image.new("RGB", (6000, 3000), "green"), "PNG")))
    assert image.size == (1024, 512)
    assert fit(image, 0) is image
    assert fit(Image.new("RGB", (6000, 1))).size == (1024, 1)


def test_small_pictures_stay_as_they_are_and_photos_become_jpeg() -> None:
    drawn = Image.new("RGB", (300, 200), "blue")
    content, suffix = encode(drawn)
    assert suffix == ".png"
    assert content_hash(read_picture(content)) == content_hash(drawn)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8))
    content, suffix = encode(noise)
    assert suffix == ".jpg"
    assert read_picture(content).size == (600, 600)


def test_content_is_pixels_not_bytes() -> None:
    image = Image.new("RGB", (8, 8), "red")
    assert content_hash(read_picture(file_of(image, "PNG"))) == content_hash(read_picture(file_of(image, "BMP")))
    other = image.copy()
    other.putpixel((7, 7), (254, 0, 0))
    assert content_hash(other) != content_hash(image)
    assert content_hash(Image.new("RGB", (2, 8))) != content_hash(Image.new("RGB", (8, 2)))


def test_what_is_no_whole_picture_is_named(tmp_path: Path) -> None:
    whole = file_of(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")
    for content, reason in (
        (whole[: len(whole) // 2], "truncated"),
        (b"no picture", "no picture in a format"),
        (b"", "no picture in a format"),
    ):
        with pytest.raises(UnreadablePictureError, match=reason):
            read_picture(content)
    with pytest.raises(UnreadablePictureError, match="FileNotFoundError"):
        read_picture(tmp_path / "gone.jpg")
    with pytest.raises(UnreadablePictureError, match="no pixels"):
        upright_rgb(Image.new("RGB", (0, 4)))


def test_a_bomb_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = file_of(Image.new("1", (100, 100)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    with pytest.raises(UnreadablePictureError, match="DecompressionBomb"):
        read_picture(content)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0, 100, 255], [0, 100, 255]),  # eight bits in a file of sixteen
        ([1, 100, 200], [1, 100, 200]),
        ([0, 256, 65535], [0, 1, 255]),
        ([0, 32768, 40000], [0, 128, 156]),
    ],
)
def test_a_16_bit_grey_keeps_its_scale(values: list[int], shown: list[int]) -> None:
    grey = Image.fromarray(np.array([values], dtype=np.uint16))
    assert np.asarray(upright_rgb(grey))[0, :, 0].tolist() == shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.2, 0.4, 0.6], [51, 102, 153]),  # a share of 0..1, as it is
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 10.0, 20.0], [0, 128, 255]),
        ([7.0, 7.0, 7.0], [0, 0, 0]),
        ([float("nan"), 0.0, 2.0], [0, 0, 255]),
        ([float("inf"), 0.0, 2.0], [0, 0, 255]),
        ([float("-inf"), 0.0, 2.0], [0, 0, 255]),
        ([0.0, 0.25, 0.5], [0, 64, 128]),  # either end of 0..1 alone
        ([0.2, 0.4, 1.0], [51, 102, 255]),
    ],
)
def test_a_floating_grey_is_scaled_to_what_it_holds(values: list[float], shown: list[int]) -> None:
    grey = Image.fromarray(np.array([values], dtype=np.float32))
    assert np.asarray(upright_rgb(grey))[0, :, 0].tolist() == shown


def test_a_picture_that_is_a_line_keeps_a_pixel_of_its_short_side() -> None:
    assert fit(Image.new("RGB", (4_000, 1)), 100).size == (100, 1)
    assert fit(Image.new("RGB", (1, 4_000)), 100).size == (1, 100)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0, 100, 255], [0, 100, 255]),
        ([-10, 0, 10], [0, 128, 255]),
        ([0, 32768, 65535], [0, 128, 255]),
        ([0, 50_000, 100_000], [0, 128, 255]),  # more than sixteen bits
        ([40_000, 70_000, 100_000], [0, 128, 255]),
    ],
)
def test_a_32_bit_grey_is_scaled_to_the_smallest_range_that_holds_it(values: list[int], shown: list[int]) -> None:
    grey = Image.fromarray(np.array([values], dtype=np.int32))
    assert np.asarray(upright_rgb(grey))[0, :, 0].tolist() == shown


@pytest.mark.parametrize(
    ("mode", "colour", "shown"),
    [
        ("RGBA", (200, 0, 0, 128), (227, 127, 127)),
        ("RGBa", (100, 0, 0, 128), (227, 127, 127)),  # premultiplied
        ("LA", (200, 128), (227, 227, 227)),
        ("La", (100, 128), (227, 227, 227)),
        ("PA", (0, 0), (255, 255, 255)),
    ],
)
def test_every_mode_with_transparency_is_laid_on_white(
    mode: str, colour: tuple[int, ...], shown: tuple[int, ...]
) -> None:
    assert upright_rgb(Image.new(mode, (1, 1), colour)).getpixel((0, 0)) == shown


def test_the_largest_picture_is_read_and_one_more_pixel_is_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 5_000)
    assert read_picture(file_of(Image.new("RGB", (100, 50)), "PNG")).size == (100, 50)
    with pytest.raises(UnreadablePictureError, match=r"too large \(5001 × 1 pixels; at most 5,000 in all\)"):
        read_picture(file_of(Image.new("RGB", (5_001, 1)), "PNG"))


def test_a_jpeg_with_too_many_pixels_is_read_at_half_its_size_if_that_is_not_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo = file_of(Image.new("RGB", (400, 200), "white"), "JPEG")
    for most, size in ((80_000, (400, 200)), (79_999, (200, 100)), (20_000, (200, 100))):
        monkeypatch.setattr(pictures, "MAX_PIXELS", most)
        assert read_picture(photo).size == size
    monkeypatch.setattr(pictures, "MAX_PIXELS", 19_999)
    with pytest.raises(UnreadablePictureError, match="too large"):
        read_picture(photo)


def test_a_picture_of_just_the_longest_side_is_left_as_it_is() -> None:
    for size in ((100, 50), (50, 100), (100, 100)):
        image = Image.new("RGB", size)
        assert fit(image, 100) is image
    assert fit(Image.new("RGB", (101, 50)), 100).size == (100, 50)
    assert fit(Image.new("RGB", (50, 101)), 100).size == (50, 100)


def test_png_up_to_the_limit_and_a_good_jpeg_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    png, _ = encode(noise)
    monkeypatch.setattr(pictures, "_PNG_BYTES", len(png))
    assert encode(noise) == (png, ".png")
    monkeypatch.setattr(pictures, "_PNG_BYTES", len(png) - 1)
    content, suffix = encode(noise)
    assert suffix == ".jpg"
    assert content == file_of(noise, "JPEG", quality=92, subsampling=0)


def test_a_small_picture_is_packed_as_well_as_png_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_PNG_BYTES", 10_000_000)
    ramp = Image.fromarray(np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)).convert("RGB")
    packed, plain = file_of(ramp, "PNG", optimize=True), file_of(ramp, "PNG")
    assert packed != plain
    assert encode(ramp) == (packed, ".png")


def test_a_photo_that_pillow_only_warns_of_is_read_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)
    photo = file_of(Image.new("RGB", (80, 100)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(photo).size == (80, 100)
        with pytest.raises(Image.DecompressionBombWarning):
            Image.open(io.BytesIO(photo))
