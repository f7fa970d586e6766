"""The pictures of the task: the same everywhere, true to their captions, and held out where they should be."""

from __future__ import annotations

import hashlib
import re

import pytest

from model_chat.tasks.shapes.scenes import (
    COLOURS,
    NUMBERS,
    SHAPES,
    SIZE,
    SPLITS,
    caption,
    dialogue,
    draw,
    is_held_out,
    make_scene,
)


def test_a_scene_is_made_from_its_number_alone() -> None:
    in_order = [make_scene("train", number) for number in range(20)]
    backwards = [make_scene("train", number) for number in reversed(range(20))]
    assert in_order == backwards[::-1]
    assert make_scene("train", 3, seed=1) != make_scene("train", 3)
    assert make_scene("valid", 3) != make_scene("test", 3)
    assert [dialogue(scene) for scene in in_order] == [dialogue(scene) for scene in in_order]
    assert draw(in_order[0]).tobytes() == draw(in_order[0]).tobytes()


def test_no_two_pictures_are_alike() -> None:
    seen = {hashlib.sha256(draw(make_scene(split, n)).tobytes()).digest() for split in SPLITS for n in range(60)}
    assert len(seen) == 180


def test_every_colour_and_shape_is_trained_on_and_the_held_out_combinations_are_not() -> None:
    trained = {(thing.colour, thing.shape) for n in range(600) for thing in make_scene("train", n).things}
    every = {(colour, shape) for colour in COLOURS for shape in SHAPES}
    held_out = {combination for combination in every if is_held_out(*combination)}
    assert len(held_out) == 8
    assert trained == every - held_out
    for split in ("valid", "test"):
        for number in range(60):
            novel = [is_held_out(thing.colour, thing.shape) for thing in make_scene(split, number).things]
            assert any(novel) == bool(number % 2)


def test_there_is_no_other_split() -> None:
    with pytest.raises(ValueError, match="'dev'"):
        make_scene("dev", 0)


@pytest.mark.parametrize("number", range(40))
def test_the_things_are_where_the_scene_says_in_their_colour(number: int) -> None:
    scene = make_scene("test", number)
    image = draw(scene)
    assert (image.mode, image.size) == ("RGB", (SIZE, SIZE))
    for thing in scene.things:
        found = image.getpixel((round(thing.x * SIZE), round(thing.y * SIZE)))
        assert found == COLOURS[thing.colour], f"{thing} at its centre"
        assert int(thing.x * 3) == thing.column
        assert int(thing.y * 3) == thing.row


def test_shapes_of_one_colour_look_different() -> None:
    scene = make_scene("train", 0)
    thing = scene.things[0]._replace(x=0.5, y=0.5, radius=0.13, colour="red")
    looks = {shape: draw(type(scene)("train", 0, (thing._replace(shape=shape),), 0)).tobytes() for shape in SHAPES}
    assert len(set(looks.values())) == len(SHAPES)


@pytest.mark.parametrize("split", SPLITS)
def test_captions_and_answers_are_true(split: str) -> None:
    for number in range(150):
        scene = make_scene(split, number)
        words = re.findall(r"[a-z]+", caption(scene).lower())
        assert {word for word in words if word in COLOURS} == {thing.colour for thing in scene.things}
        turns = dialogue(scene)
        assert len(turns) == 5
        assert turns[0].label == caption(scene)
        for turn in turns[1:]:
            assert turn.text
            said = re.findall(r"[a-z]+", turn.label.lower())
            if said[0] == "no":
                missing = set(said) & (set(COLOURS) | set(SHAPES))
                assert len(missing) == 1
                assert not any(missing & {thing.colour, thing.shape} for thing in scene.things)
            elif not turn.label.startswith("There are no "):
                assert {w for w in said if w in COLOURS} <= {thing.colour for thing in scene.things}
                shapes = {shape for shape in SHAPES for w in said if w in (shape, shape + "s", shape + "es")}
                assert shapes <= {thing.shape for thing in scene.things}
            if "how many shapes" in turn.text.lower():
                assert NUMBERS[len(scene.things)] in said


def test_no_question_asks_for_what_could_be_two_answers() -> None:
    for number in range(300):
        scene = make_scene("train", number)
        for turn in dialogue(scene)[1:]:
            asked = re.match(r"(?:What|Which) colou?r (?:is|does) the (\w+)", turn.text)
            if asked:
                assert sum(thing.shape == asked[1] for thing in scene.things) == 1
