"""Pictures as the image file holds them: upright, RGB, of a bounded size, without anything but the picture.

Re-encoding also drops what must not reach a crowd worker: camera, owner, and where a photo was taken.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from model_chat.errors import ModelChatError

MAX_SIDE = 1024
"""Pixels; longer sides are scaled down to it, as the page shows no more and every worker has to download it."""

MAX_PIXELS = 64_000_000
"""Of a picture that is decoded: in the modes that take most memory (RGBA, 16-bit grey) about 1.7 GB. Pillow refuses three
times as many, whose modes take 5 GB and a minute."""

FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""Pillow's names of the formats that are read; others start programs (EPS starts Ghostscript) or are no pictures."""

_PNG_BYTES = 256 * 1024
"""Up to this size a picture is kept without loss; above, it is most likely a photo, and JPEG is a tenth of the size."""


class UnreadablePictureError(ModelChatError, ValueError):
    """A picture can't be decoded; the message says why."""


def read_picture(source: bytes | str | Path | BinaryIO) -> Image.Image:
    """Decode a picture file to an upright RGB image of its full size; of an animation, the first frame.

    Raises:
        UnreadablePictureError: it is truncated, damaged, no picture, too large to be decoded safely, or can't be read.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns between 90 and 180 megapixels, and refuses more: a photo of that size is read smaller.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)
            Image.init()
            formats = [name for name in FORMATS if name in Image.OPEN]
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:
                    image.draft(None, (image.width // 2, image.height // 2))  # JPEG can be decoded at half the size
                if image.width * image.height > MAX_PIXELS:
                    raise UnreadablePictureError(
                        f"it is too large ({image.width} × {image.height} pixels; at most {MAX_PIXELS:,} in all)"
                    )
                image.load()
                return upright_rgb(image)
    except UnreadablePictureError:
        raise
    except UnidentifiedImageError:  # its own message is about our buffer
        raise UnreadablePictureError("it is no picture in a format that can be read") from None
    except Exception as error:  # Pillow's decoders raise many types for damaged files, not all of them documented
        raise UnreadablePictureError(f"{type(error).__name__}: {error}") from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn a decoded picture of any mode upright (EXIF) and into RGB; what is transparent becomes white.

    Raises:
        UnreadablePictureError: it has no pixels, or a mode that can't be shown.
    """
    if not image.width or not image.height:
        raise UnreadablePictureError(f"it has no pixels ({image.width} × {image.height})")
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")  # Pillow has no step from La
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise UnreadablePictureError(f"its mode {image.mode} can't be shown ({error})") from None


def _deep_grey(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and floating point greys to 8 bits; Pillow's own conversion would clip them to white."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    if image.mode.startswith("I"):
        low, high = 0.0, 255.0 if values.max() <= 255 and values.min() >= 0 else 65535.0
        if values.min() < 0 or values.max() > high:
            low, high = float(values.min()), float(values.max())
    else:
        low, high = float(values.min()), float(values.max())
        if low >= 0.0 and high <= 1.0:
            low, high = 0.0, 1.0
    span = (high - low) or 1.0
    return Image.fromarray(np.round((values - low) / span * 255).astype(np.uint8))


def fit(image: Image.Image, max_side: int = MAX_SIDE) -> Image.Image:
    """Scale a picture down so that neither side is longer than ``max_side`` pixels (0: leave it)."""
    if not max_side or max(image.size) <= max_side:
        return image
    scale = max_side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def content_hash(image: Image.Image) -> str:
    """Return the SHA-256 of what an RGB picture shows: its size and pixels, not how a file encodes them."""
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def encode(image: Image.Image) -> tuple[bytes, str]:
    """Encode an RGB picture for browsers: PNG while that is small, else JPEG (quality 92, full colour resolution).

    Returns:
        the file's bytes and its suffix, ``.png`` or ``.jpg``.
    """
    bare = Image.frombytes(image.mode, image.size, image.tobytes())  # no EXIF, no text chunks, no colour profile
    png = io.BytesIO()
    bare.save(png, "PNG", optimize=True)
    if len(png.getvalue()) <= _PNG_BYTES:
        return png.getvalue(), ".png"
    jpeg = io.BytesIO()
    # Not optimize=True: Pillow then needs the whole picture in one buffer, whose size it underestimates for noisy ones.
    bare.save(jpeg, "JPEG", quality=92, subsampling=0)
    return jpeg.getvalue(), ".jpg"
