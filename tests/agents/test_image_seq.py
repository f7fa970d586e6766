"""The small model that sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from model_chat.tasks.shapes.scenes import draw, make_scene


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for a few steps: enough to work, not to be right."""
    from parlai.scripts.train_model import TrainModel

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    TrainModel.main(
        task="model_chat.tasks.shapes",
        model="model_chat.agents.image_seq:ImageSeqAgent",
        model_file=str(folder / "model"),
        dict_file=str(folder / "model.dict"),
        shapes_pictures=30,
        batchsize=16,
        max_train_steps=25,
        embedding_size=32,
        n_heads=2,
        ffn_size=64,
        n_layers=1,
        image_side=48,
        image_grid=3,
        image_channels=8,
        optimizer="adam",
        learningrate=5e-3,
        history_size=1,
        dict_tokenizer="re",
        dict_lower=True,
        skip_generation=True,
        evaltask="shapes:caption",
        no_cuda=True,
        loglevel="warn",
    )
    return folder / "model"


def load(model_file: Path, **more: Any) -> Any:
    from parlai.core.agents import create_agent_from_model_file

    options = {"skip_generation": False, "interactive_mode": True, "no_cuda": True, "datatype": "valid", **more}
    return create_agent_from_model_file(str(model_file), options)


def say(agent: Any, text: str | None, image: Any) -> Any:
    message = {"id": "human", "episode_done": False, "image": image}
    agent.observe(message if text is None else {**message, "text": text})
    return agent.act()


def test_it_replies_with_a_picture_and_without(model_file: Path) -> None:
    agent = load(model_file)
    picture = draw(make_scene("test", 1))
    for text, image in (("", picture), ("hi!", picture), ("unknown wörds", picture), ("hi!", None), ("", None)):
        assert say(agent, text, image)["text"].strip()
    agent.reset()
    assert say(agent, None, picture)["text"].strip(), "the first word is the model's: it has only the picture"


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1"])
def test_it_takes_pictures_of_any_mode_and_size(model_file: Path, mode: str) -> None:
    agent = load(model_file)
    for size in ((1, 1), (700, 3)):
        assert say(agent, "hi!", Image.new(mode, size))["text"].strip()


def test_the_same_files_give_the_same_replies(model_file: Path) -> None:
    pictures = [draw(make_scene("test", number)) for number in range(4)]
    replies = [[say(agent, "what do you see?", p)["text"] for p in pictures] for agent in map(load, [model_file] * 2)]
    assert replies[0] == replies[1]


def test_what_it_computes_depends_on_the_picture(model_file: Path) -> None:
    agent = load(model_file)
    seen = []
    for number in (0, 1):
        agent.reset()
        observation = agent.observe(
            {"id": "human", "text": "hi!", "image": draw(make_scene("test", number)), "episode_done": False}
        )
        batch = agent.batchify([observation])
        states, mask = agent.model.encoder(*agent._encoder_input(batch))
        assert bool(mask.all())
        seen.append(states)
    assert not torch.allclose(seen[0], seen[1])
    observation = agent.observe({"id": "human", "text": "hi!", "episode_done": False})
    _, mask = agent.model.encoder(*agent._encoder_input(agent.batchify([observation])))
    assert not bool(mask[0, -10:].any()), "without a picture none of the nine cells and their sum count"


def test_clones_answer_together_as_they_do_alone(model_file: Path) -> None:
    from parlai.core.agents import create_agent_from_shared

    parent = load(model_file)
    clones = [create_agent_from_shared(parent.share()) for _ in range(3)]
    pictures = [draw(make_scene("test", number)) for number in range(2)] + [None]
    texts = ["what do you see?", "", "is there a star?"]
    together = parent.batch_act(
        [
            clone.observe({"id": "human", "text": text, "image": picture, "episode_done": False})
            for clone, text, picture in zip(clones, texts, pictures, strict=True)
        ]
    )
    for clone, reply in zip(clones, together, strict=True):
        clone.self_observe(reply)
    alone = [say(load(model_file), text, picture)["text"] for text, picture in zip(texts, pictures, strict=True)]
    assert [reply["text"] for reply in together] == alone


def test_features_of_another_image_mode_are_refused_in_words(model_file: Path) -> None:
    with pytest.raises(TypeError, match=r"--image-mode raw.*Tensor"):
        say(load(model_file), "hi!", torch.zeros(1, 2048))


def test_a_side_too_small_for_the_grid_is_refused(model_file: Path) -> None:
    with pytest.raises(ValueError, match="--image-side 8, --image-grid 3: give a side of at least 4 pixels a cell"):
        load(model_file, image_side=8)


def test_naming_what_a_cell_shows_is_learned() -> None:
    from model_chat.agents.image_seq import Eyes, cells_of, naming_loss, pixels_of

    torch.manual_seed(0)
    scenes = [make_scene("train", number) for number in range(24)]
    pixels = torch.stack([pixels_of(draw(scene), 48) for scene in scenes])
    things = [[(thing.colour, thing.shape, thing.x, thing.y) for thing in scene.things] for scene in scenes]
    colours, shapes = cells_of(things, 3)
    assert [int((cells > 0).sum()) for cells in (colours, shapes)] == [sum(map(len, things))] * 2
    eyes = Eyes(8, 3)
    optimizer = torch.optim.Adam(eyes.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        colour, shape = eyes(pixels)
        loss = naming_loss(colour, shape, colours, shapes)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 3


def test_frozen_eyes_stay_as_they_were_given(tmp_path: Path, model_file: Path) -> None:
    given = load(model_file).model.eyes
    torch.save(given.state_dict(), tmp_path / "eyes.pt")
    agent = load(model_file, eyes_file=str(tmp_path / "eyes.pt"), freeze_eyes=True)
    agent.model.train()
    assert not agent.model.eyes.training
    assert not any(weight.requires_grad for weight in agent.model.eyes.parameters())
    assert agent.model.place.requires_grad
    for name, value in agent.model.eyes.state_dict().items():
        assert torch.equal(value, given.state_dict()[name])
