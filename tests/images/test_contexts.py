"""The file of images with their contexts."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import stat
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from model_chat.errors import ConfigurationError
from model_chat.images import contexts as contexts_module
from model_chat.images.contexts import ImageContexts, ImageContextsWriter, json_safe_act


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (10, 10), (number % 256, number // 256, 7))


def write(path: Path, count: int) -> Path:
    with ImageContextsWriter(path) as writer:
        for number in range(count):
            writer.add(
                picture(number), {"text": f"text {number}", "labels": ["ä"]}, {"task": "t", "example_idx": number}
            )
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as raised:
        ImageContexts(path)
    return str(raised.value)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    with ImageContexts(write(tmp_path / "new folder" / "images.parquet", 40)) as images:
        assert len(images) == 40
        for image_idx in (0, 15, 16, 39):
            found = images[image_idx]
            assert found.image_idx == image_idx
            assert found.open().getpixel((3, 3)) == (image_idx, 0, 7)
            assert found.act == {"text": f"text {image_idx}", "labels": ["ä"]}
            assert found.context["example_idx"] == image_idx
            assert (found.context["width"], found.context["height"]) == (10, 10)
            assert len(found.context["sha256"]) == 64
            assert found.path == f"{image_idx:06d}.png"
        assert [found.image_idx for found in images] == list(range(40))
        for image_idx in (-1, 40):
            with pytest.raises(IndexError):
                images[image_idx]


def test_the_data_url_is_what_a_browser_shows(tmp_path: Path) -> None:
    with ImageContexts(write(tmp_path / "images.parquet", 1)) as images:
        head, content = images[0].data_url().split(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (10, 10)


def test_the_file_has_hugging_faces_layout_and_pandas_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "images.parquet", 3)
    schema = pq.read_schema(path)
    assert schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert set(features) == {"image", "act", "context"} == set(schema.names)
    table = pd.read_parquet(path)
    assert len(table) == 3
    assert Image.open(io.BytesIO(table["image"][2]["bytes"])).getpixel((0, 0)) == (2, 0, 7)
    assert json.loads(table["act"][2])["text"] == "text 2"


def test_reading_one_image_reads_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0)
    path = tmp_path / "images.parquet"
    monkeypatch.setattr(contexts_module, "_GROUP_BYTES", 100_000)
    with ImageContextsWriter(path) as writer:
        for _ in range(12):
            writer.add(Image.fromarray(noise.integers(0, 256, (100, 100, 3), dtype=np.uint8)), {}, {})
    metadata = pq.ParquetFile(path).metadata
    assert metadata.num_row_groups == 3, "four pictures of 30 kB each close a group at 100 kB"
    with ImageContexts(path) as images:
        images[5]
        assert list(images._cache) == [1]
        read = images._cache[1]
        for image_idx in range(4, 8):
            images[image_idx]
        assert images._cache[1] is read, "each of its four pictures is found there"
        for image_idx in range(12):
            images[image_idx]
        assert len(images._cache) <= contexts_module._CACHED_GROUPS


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    wrong: list[int] = []
    with ImageContexts(write(tmp_path / "images.parquet", 200)) as images:

        def read(start: int) -> None:
            wrong.extend(
                image_idx
                for image_idx in range(start, 200, 7)
                if images[image_idx].open().getpixel((0, 0)) != (image_idx, 0, 7)
            )

        threads = [threading.Thread(target=read, args=(start,)) for start in range(7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_the_fingerprint_tells_other_images_and_not_other_files(tmp_path: Path) -> None:
    prints = []
    for name, count in (("one", 3), ("same", 3), ("more", 4)):
        with ImageContexts(write(tmp_path / name, count)) as images:
            prints.append(images.fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_an_unfinished_file_is_not_there_and_an_earlier_one_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "images.parquet", 2)
    with pytest.raises(RuntimeError), ImageContextsWriter(path) as writer:
        writer.add(picture(0), {}, {})
        raise RuntimeError
    with pytest.raises(RuntimeError, match="closed"):
        writer.add(picture(0), {}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["images.parquet"]
    with ImageContexts(path) as images:
        assert len(images) == 2


def test_the_whole_file_is_on_disk_before_it_has_its_name_and_the_name_is_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int | str] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            assert (tmp_path / "images.parquet").exists()
            synced.append("folder")
        else:
            assert not (tmp_path / "images.parquet").exists()
            synced.append(status.st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    path = write(tmp_path / "images.parquet", 2)
    assert synced == [path.stat().st_size, "folder"]


def test_long_acts_close_a_row_group_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts_module, "_GROUP_BYTES", 10_000)
    with ImageContextsWriter(tmp_path / "images.parquet") as writer:
        for number in range(3):
            writer.add(picture(number), {"text": "x" * 20_000}, {})
    assert pq.ParquetFile(tmp_path / "images.parquet").metadata.num_row_groups == 3


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, write(tmp_path / "file", 1) / "inside.parquet"):
        with pytest.raises(ConfigurationError, match="--image-context-path"):
            ImageContextsWriter(path)


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_refused_unloaded_with_the_remedy(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "code has run"
    path = tmp_path / ("old.pkl" if protocol < 2 else "image_contexts")
    path.write_bytes(pickle.dumps(Harmful(proof), protocol=protocol))
    told = refusal(path)
    assert f"image_context_path={path}: this is a pickle file, and loading one can run any code" in told
    assert "scripts/save_image_contexts.py" in told
    assert not proof.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none")
    assert "is a folder" in refusal(tmp_path)
    path = tmp_path / "file"
    for content in (b"", b"P", b"\x80", b"some text"):
        path.write_bytes(content)
        assert "this is no Parquet file" in refusal(path)
    whole = write(tmp_path / "whole", 3).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "the Parquet file is damaged" in refusal(path)


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="needs a file that can be opened and not read")
def test_a_file_that_can_not_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "images.parquet").symlink_to("/proc/self/mem")
    with pytest.raises(ConfigurationError, match=r"images\.parquet: it can't be read \(.*check its permissions"):
        ImageContexts(tmp_path / "images.parquet")


def test_parquet_files_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    assert "it has no column 'image' of the form {bytes, path}, but ['a']" in refusal(path)
    pq.write_table(pa.table({"image": ["a.jpg"]}), path)
    assert "it has no column 'image'" in refusal(path)
    with ImageContextsWriter(path):
        pass
    assert "it holds no image" in refusal(path)


def test_a_file_made_by_others_is_read_and_links_to_elsewhere_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    content = io.BytesIO()
    picture(1).save(content, "PNG")
    rows = [{"bytes": content.getvalue(), "path": None}, {"bytes": None, "path": "/pictures/b.jpg"}]
    pq.write_table(pa.table({"label": [1, 2], "image": rows}), path)
    with ImageContexts(path) as images:
        assert images[0].open().size == (10, 10)
        assert images[0].act == {}
        with pytest.raises(ConfigurationError, match=r"image 1 is not in the file itself .*b\.jpg"):
            images[1]


def test_acts_become_json_without_the_image() -> None:
    act = {
        "image": picture(0),
        "text": "a\ud800b",
        "labels": ("x", "y"),
        "number": np.int64(3),
        "score": float("nan"),
        "rate": 0.5,
        "candidates": {"b", "a"},
        "inner": {"object": object(), 5: [object(), 1]},
        "episode_done": True,
        "vector": np.zeros(4),
    }
    assert json_safe_act(act) == {
        "text": "a?b",
        "labels": ["x", "y"],
        "number": 3,
        "score": None,
        "rate": 0.5,
        "candidates": ["a", "b"],
        "inner": {"5": [1]},
        "episode_done": True,
    }


def test_a_row_group_is_closed_at_sixteen_images(tmp_path: Path) -> None:
    path = write(tmp_path / "images.parquet", 33)
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [16, 16, 1]


def test_the_row_groups_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts_module, "_GROUP_ROWS", 1)
    with ImageContexts(write(tmp_path / "images.parquet", 6)) as images:
        for image_idx in (0, 1, 2, 3, 0, 4):
            images[image_idx]
        assert list(images._cache) == [2, 3, 0, 4]
