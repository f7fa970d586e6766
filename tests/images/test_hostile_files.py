"""Image files and pictures that claim or hold more than they should: refused, or read within bounds."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image

from model_chat.errors import ConfigurationError
from model_chat.images import _parquet, contexts, pictures
from model_chat.images.contexts import ImageContexts, ImageContextsWriter
from model_chat.images.pictures import UnreadablePictureError, read_picture


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def foreign(path: Path, *pictures_bytes: bytes, row_group_size: int | None = None, **columns: list[Any]) -> Path:
    """An image file that others have written."""
    rows = [{"bytes": content, "path": None} for content in pictures_bytes]
    pq.write_table(pa.table({"image": rows, **columns}), path, row_group_size=row_group_size)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as raised:
        ImageContexts(path)
    (sentence,) = raised.value.faults
    assert str(path) in sentence
    return sentence


# --- Parquet ---


def test_a_few_kilobytes_that_claim_a_million_images_are_refused(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.nulls(_parquet.MAX_IMAGES + 1, kind)}), tmp_path / "bomb")
    assert (tmp_path / "bomb").stat().st_size < 100_000
    assert "1,000,001 images; at most 1,000,000" in refusal(tmp_path / "bomb")


def test_a_row_group_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parquet, "MAX_CHUNK_BYTES", 1_000_000)
    zeros = [{"bytes": bytes(400_000 + n), "path": None} for n in range(4)]
    pq.write_table(pa.table({"image": zeros}), tmp_path / "bomb", compression="zstd")
    assert (tmp_path / "bomb").stat().st_size < 100_000
    assert "row group 0 has 1,6" in refusal(tmp_path / "bomb")
    pq.write_table(pa.table({"image": zeros}), tmp_path / "split", compression="zstd", row_group_size=2)
    with ImageContexts(tmp_path / "split") as images:
        assert len(images) == 4


def test_one_picture_that_stands_for_many_rows_is_unpacked_a_few_times_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = file_of(Image.new("RGB", (40, 40), "red"))
    path = foreign(tmp_path / "many", *[content] * 1_000)
    sizes: list[int] = []
    to_pylist = ImageContexts._context

    with ImageContexts(path) as images:
        read_batch = images._read_batch

        def watched(group: int, image_idx: int) -> Any:
            first, rows = read_batch(group, image_idx)
            sizes.append(len(rows))
            return first, rows

        monkeypatch.setattr(images, "_read_batch", watched)
        for image_idx in (0, 15, 16, 999, 3, 500):
            assert images[image_idx].image_bytes == content
        assert sum(1 for _ in images) == 1_000
    assert max(sizes) <= contexts._GROUP_ROWS
    assert len(sizes) == 5, "the second image was read with the first"
    assert ImageContexts._context is to_pylist


def test_images_of_a_large_row_group_are_the_same_by_index_as_in_order(tmp_path: Path) -> None:
    written = [file_of(Image.new("RGB", (4, 4), (n, 0, 0))) for n in range(50)]
    with ImageContexts(foreign(tmp_path / "f", *written, row_group_size=37)) as images:
        assert [image.image_bytes for image in images] == written
        assert [image.image_idx for image in images] == list(range(50))
        for image_idx in (49, 0, 36, 37, 17, 16, 31, 32):
            assert images[image_idx].image_bytes == written[image_idx]
        with pytest.raises(IndexError):
            images[50]


def test_a_picture_of_too_many_bytes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "MAX_IMAGE_BYTES", 1_000)
    with ImageContexts(foreign(tmp_path / "f", b"x" * 1_000, b"x" * 1_001)) as images:
        assert images[0].image_bytes
        with pytest.raises(ConfigurationError, match=r"image 1 can't be read \(1,001 bytes; at most 1,000\)"):
            images[1]


@pytest.mark.parametrize("column", ["act", "context"])
@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": 1}}'])
def test_an_act_or_context_that_is_no_json_is_named_before_the_launch(tmp_path: Path, column: str, text: str) -> None:
    picture = file_of(Image.new("RGB", (4, 4)))
    with ImageContexts(foreign(tmp_path / "f", picture, picture, **{column: ["{}", text]})) as images:
        with pytest.raises(ConfigurationError, match=r"image 1 can't be read .*no JSON"):
            _ = images.fingerprint
        with pytest.raises(ConfigurationError, match=r"image 1 can't be read .*no JSON"):
            images[1]


def test_a_damaged_picture_of_a_foreign_file_is_named_before_the_launch(tmp_path: Path) -> None:
    whole = file_of(Image.new("RGB", (40, 40)))
    path = foreign(tmp_path / "f", whole, whole[:60])
    with ImageContexts(path) as images, pytest.raises(ConfigurationError, match="image 1 can't be read"):
        _ = images.fingerprint


# --- what workers get ---


def located() -> bytes:
    """A photo that says where it was taken, and is to be turned."""
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Ann Example"
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.0)
    return file_of(Image.new("RGB", (2_000, 20), "red"), "JPEG", exif=exif)


def test_a_page_gets_nothing_but_the_picture_of_a_foreign_file(tmp_path: Path) -> None:
    assert b"Ann Example" in located()
    with ImageContexts(foreign(tmp_path / "f", located())) as images:
        head, _, data = images[0].data_url().partition(",")
    sent = base64.b64decode(data)
    assert b"Ann Example" not in sent
    with Image.open(io.BytesIO(sent)) as shown:
        assert head == f"data:image/{(shown.format or '').lower()};base64"
        assert not shown.getexif()
        assert shown.size == (10, pictures.MAX_SIDE), "upright, and no larger than a page shows"


def test_a_page_gets_the_bytes_of_our_own_file_as_they_are(tmp_path: Path) -> None:
    with ImageContextsWriter(tmp_path / "ours") as writer:
        writer.add(Image.new("RGB", (40, 30), "red"), {}, {})
    with ImageContexts(tmp_path / "ours") as images:
        assert base64.b64decode(images[0].data_url().partition(",")[2]) == images[0].image_bytes


# --- pictures ---


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A black picture of one bit a pixel, however large, with further chunks."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = zlib.compress((b"\0" + bytes((width + 7) // 8)) * height)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + b"".join(chunk(*each) for each in chunks)
        + chunk(b"IDAT", packed)
        + chunk(b"IEND", b"")
    )


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: Any) -> None:
        raise AssertionError("it was decoded")

    content = png(10_000, 6_401)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(UnreadablePictureError, match=r"too large \(10000 × 6401 pixels; at most 64,000,000 in all\)"):
        read_picture(content)


def test_the_largest_picture_is_read_and_one_pixel_more_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    assert read_picture(png(10, 10)).size == (10, 10)
    with pytest.raises(UnreadablePictureError, match="too large"):
        read_picture(png(101, 1))


def test_a_photo_of_too_many_pixels_is_read_at_half_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100 * 100)
    assert read_picture(file_of(Image.new("RGB", (160, 120), "red"), "JPEG")).size == (80, 60)
    with pytest.raises(UnreadablePictureError, match="too large"):
        read_picture(file_of(Image.new("RGB", (400, 400), "red"), "JPEG"))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_only_the_first_of_many_frames_is_decoded(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("RGB", (16, 16), (n % 250, 0, 0)) for n in range(200)]
    content = file_of(frames[0], form, save_all=True, append_images=frames[1:])
    seeks: list[int] = []
    with Image.open(io.BytesIO(content)) as opened:
        kind = type(opened)
    seek = kind.seek
    monkeypatch.setattr(kind, "seek", lambda self, frame: (seeks.append(frame), seek(self, frame))[1])
    assert read_picture(content).size == (16, 16)
    assert [frame for frame in seeks if frame] == []


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_metadata_that_unpacks_to_much_is_refused(kind: bytes) -> None:
    with pytest.raises(UnreadablePictureError, match="too large"):
        read_picture(png(10, 10, (kind, b"a\0\0" + zlib.compress(bytes(10_000_000)))))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01", b"Exif\0\0"])
def test_damaged_metadata_is_no_reason_to_refuse_a_picture(exif: bytes) -> None:
    assert read_picture(file_of(Image.new("RGB", (20, 10)), "JPEG", exif=exif)).size == (20, 10)


def test_a_picture_that_would_start_a_program_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> Any:
        raise AssertionError("started a program")

    monkeypatch.setattr("subprocess.Popen", start)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(UnreadablePictureError, match="no picture in a format"):
        read_picture(script)


@pytest.mark.parametrize("mode", ["I;16", "F", "RGBA", "LA", "P", "1", "CMYK"])
def test_pictures_of_every_mode_are_read(mode: str) -> None:
    picture = (
        Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16))
        if mode == "I;16"
        else Image.new(mode, (16, 16))
    )
    assert read_picture(file_of(picture, "TIFF")).mode == "RGB"
