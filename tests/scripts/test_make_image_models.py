"""``make_demo_models.py --image``: the image demo comes into the base folder whole, once, and loads from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from model_chat.images.contexts import ImageContexts, ImageContextsWriter
from model_chat.images.inputs import ImageInput, check_takes_images
from model_chat.scripts import make_demo_models, make_image_demo
from model_chat.scripts.make_image_demo import Effort
from model_chat.serving.catalogue import models_in_folder, models_in_opt_file
from model_chat.serving.loading import load_model


def test_the_image_demo_is_made_once_and_takes_images_from_the_folder_and_from_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # One of the two: the other is trained by test_make_image_demo.py.
    monkeypatch.setattr(make_demo_models, "IMAGE_MODELS", ("demo/shapes_a",))
    monkeypatch.setattr(make_image_demo, "EFFORTS", {"demo/shapes_a": Effort(pictures=64, epochs=1, steps=3)})
    monkeypatch.setitem(make_image_demo._SETTINGS, "shapes_pictures", 20)
    command = ["--models-dir", str(tmp_path), "--image"]
    assert make_demo_models.main(command) == 0
    in_folder = models_in_folder("flag", str(tmp_path))
    assert tuple(in_folder) == make_demo_models.IMAGE_MODELS
    opt = json.loads((tmp_path / "demo/shapes_a/model.opt").read_text(encoding="utf-8"))
    assert opt["image_mode"] == "raw"
    assert str(tmp_path) not in json.dumps(opt)
    capsys.readouterr()
    assert make_demo_models.main(command) == 0
    assert capsys.readouterr().out.count("already there") == 1

    flags = tmp_path / "opts.yaml"
    flags.write_text(f'a: "--model-file {tmp_path}/demo/shapes_a/model --no-cuda"\n', encoding="utf-8")
    with ImageContextsWriter(tmp_path / "images.parquet") as writer:
        writer.add(Image.new("RGB", (50, 40), "white"), {}, {})
    with ImageContexts(tmp_path / "images.parquet") as images:
        for source in (in_folder["demo/shapes_a"], models_in_opt_file("flag", str(flags))["a"]):
            model = load_model(source, model_parallel=False)
            check_takes_images(model, ImageInput(model, images))


def test_the_shipped_flags_name_the_shipped_demo() -> None:
    root = Path(make_demo_models.__file__).resolve().parent.parent
    shipped = models_in_opt_file("flag", str(root / "task_config/image_model_opts.yaml"))
    assert tuple(shipped) == make_demo_models.IMAGE_MODELS
    for nickname, source in shipped.items():
        assert source.flags is not None
        assert f"--model-file models/{nickname}/model" in source.flags
