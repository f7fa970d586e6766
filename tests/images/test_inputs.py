"""Images in the form that a model wants, and models that take none found out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from parlai.core.image_featurizers import ImageLoader
from parlai.core.opt import Opt
from PIL import Image

from model_chat.errors import ConfigurationError
from model_chat.images.contexts import ImageContexts, ImageContextsWriter
from model_chat.images.inputs import ImageInput, _WatchedFeatures, check_takes_images
from model_chat.serving.loading import LoadedModel
from model_chat.tests.image_agents import (
    BlindAgent,
    ChoosingAgent,
    FeaturesAgent,
    LookingAgent,
    SendsAwayAgent,
    SilentAgent,
)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[ImageContexts]:
    with ImageContextsWriter(tmp_path / "images.parquet") as writer:
        for number in range(3):
            writer.add(Image.new("RGB", (40, 30), (number, 20, 30)), {}, {})
    with ImageContexts(tmp_path / "images.parquet") as opened:
        yield opened


def model(agent: Any, **opt: Any) -> LoadedModel:
    # What ParlAI puts into every opt, a text model's too.
    return LoadedModel("nick", agent(Opt({"image_mode": "raw", "image_size": 256, "image_cropsize": 224, **opt})), None)


def refusal(loaded: LoadedModel, images: ImageContexts) -> str:
    with pytest.raises(ConfigurationError) as raised:
        check_takes_images(loaded, ImageInput(loaded, images))
    (sentence,) = raised.value.faults
    assert "mephisto.blueprint.image_models" in sentence
    assert "'nick'" in sentence
    return sentence


def test_raw_is_the_picture_itself(images: ImageContexts) -> None:
    shown = ImageInput(model(LookingAgent), images)[2]
    assert shown.size == (40, 30)
    assert shown.getpixel((0, 0)) == (2, 20, 30)


def test_ascii_is_text(images: ImageContexts) -> None:
    shown = ImageInput(model(LookingAgent, image_mode="ascii"), images)[0]
    assert isinstance(shown, str)
    assert len(shown.splitlines()) == 30


class CountingNet(torch.nn.Module):
    """In the place of a network whose weights would have to be downloaded."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return pixels.mean((2, 3))


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> CountingNet:
    net = CountingNet()

    def without_torchvision(self: Any) -> None:
        self.transform = lambda image: torch.full((3, 4, 4), float(image.getpixel((0, 0))[0]))

    def with_our_net(self: Any) -> None:
        self.netCNN = net

    monkeypatch.setattr(ImageLoader, "_init_transform", without_torchvision)
    monkeypatch.setattr(ImageLoader, "_init_resnet_cnn", with_our_net)
    return net


def test_features_are_made_once_for_each_image(images: ImageContexts, net: CountingNet) -> None:
    inputs = ImageInput(model(FeaturesAgent, image_mode="resnet152", no_cuda=True), images)
    assert [inputs[number].tolist() for number in (0, 1, 2, 2, 1)] == [[[n] * 3] for n in (0.0, 1.0, 2.0, 2.0, 1.0)]
    assert net.runs == 3


def test_a_model_that_calculates_with_features_takes_images_and_one_that_does_not_is_refused(
    images: ImageContexts, net: CountingNet
) -> None:
    good = model(FeaturesAgent, image_mode="resnet152", no_cuda=True)
    check_takes_images(good, ImageInput(good, images))
    assert "did not look" in refusal(model(BlindAgent, image_mode="resnet152", no_cuda=True), images)


@pytest.mark.parametrize("agent", [LookingAgent, SendsAwayAgent])
def test_a_model_that_looks_or_says_that_it_does_is_taken(images: ImageContexts, agent: Any) -> None:
    loaded = model(agent)
    check_takes_images(loaded, ImageInput(loaded, images))


def test_a_text_model_is_found_out_though_its_options_say_nothing(images: ImageContexts) -> None:
    assert "did not look at it" in refusal(model(BlindAgent), images)


def test_a_parlai_generator_without_eyes_is_found_out(images: ImageContexts, tmp_path: Path) -> None:
    from parlai.core.agents import create_agent
    from parlai.core.params import ParlaiParser

    (tmp_path / "words.dict").write_text("hello\t3\nworld\t2\n", encoding="utf-8")
    flags = ["--model", "transformer/generator", "--dict-file", str(tmp_path / "words.dict"), "--no-cuda"]
    flags += ["--n-layers", "1", "--n-heads", "1", "--embedding-size", "4", "--ffn-size", "4", "--n-positions", "16"]
    flags += ["--datatype", "valid", "--inference", "greedy", "--skip-generation", "False", "--text-truncate", "8"]
    opt = ParlaiParser(True, True).parse_args([*flags, "--label-truncate", "4"])
    opt["interactive_mode"] = True
    assert opt["image_mode"] == "raw", "why its options don't tell"
    assert "did not look at it" in refusal(LoadedModel("nick", create_agent(opt), None), images)


@pytest.mark.parametrize("mode", ["no_image_model", "none", None])
def test_a_model_whose_options_say_that_it_takes_no_images_is_refused(images: ImageContexts, mode: str | None) -> None:
    assert f"image_mode is '{mode}'" in refusal(model(LookingAgent, image_mode=mode), images)


def test_a_mode_that_cannot_be_made_here_is_refused_with_those_that_can(images: ImageContexts) -> None:
    assert "resnet152" in refusal(model(LookingAgent, image_mode="faster_r_cnn_152_32x8d"), images)


def test_without_torchvision_the_extra_is_named(images: ImageContexts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    sentence = refusal(model(LookingAgent, image_mode="resnet152"), images)
    assert "torchvision" in sentence
    assert "model-chat[resnet]" in sentence


def test_weights_that_cannot_be_had_are_said(images: ImageContexts, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(self: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(ImageLoader, "_init_transform", lambda self: None)
    monkeypatch.setattr(ImageLoader, "_init_resnet_cnn", offline)
    sentence = refusal(model(LookingAgent, image_mode="resnet152"), images)
    assert "no route to host" in sentence
    assert "checkpoints" in sentence


def test_a_model_without_a_first_word_is_refused(images: ImageContexts) -> None:
    assert "gives no reply" in refusal(model(SilentAgent), images)


def test_a_model_that_breaks_on_a_picture_is_refused_with_its_reason(images: ImageContexts) -> None:
    assert "has no attribute 'sum'" in refusal(model(FeaturesAgent), images)


def test_a_model_is_tried_with_what_the_teacher_says_of_the_image(tmp_path: Path) -> None:
    loaded = model(ChoosingAgent)
    for name, act in (("with", {"label_candidates": ["Grey."]}), ("without", {})):
        with ImageContextsWriter(tmp_path / name) as writer:
            writer.add(Image.new("RGB", (4, 3)), act, {})
    with ImageContexts(tmp_path / "with") as images:
        check_takes_images(loaded, ImageInput(loaded, images))
    with ImageContexts(tmp_path / "without") as images:
        assert "KeyError: 'label_candidates'" in refusal(loaded, images)


def test_only_so_many_features_are_kept(
    images: ImageContexts, net: CountingNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_chat.images.inputs.CACHED_FEATURES", 2)
    inputs = ImageInput(model(FeaturesAgent, image_mode="resnet152", no_cuda=True), images)
    for number in (0, 1, 0, 2, 0):
        inputs[number]
    assert list(inputs._features) == [2, 0]
    assert net.runs == 3


def test_features_that_are_watched_calculate_as_others_do() -> None:
    looked_at = threading.Event()
    watched = _WatchedFeatures.of(torch.ones(2, 3), looked_at)
    assert not looked_at.is_set()
    assert torch.sum(watched, dim=0).tolist() == [2.0, 2.0, 2.0]
    assert looked_at.is_set()
