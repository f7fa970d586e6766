"""The rules of image chat: who gets which image with which model."""

from __future__ import annotations

import collections
import json
import logging
import math
import os
import random
import re
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from scipy import stats

from model_chat.errors import ConfigurationError
from model_chat.images.stack import Draw, ImageStack, Place, Progress, find_stack_faults, read_stack

NO_MORE_WORK = Draw(None, None, True)


def assert_rules_hold(places: list[dict[str, list[str]]], evals: int) -> None:
    for image_idx, entry in enumerate(places):
        holders = [worker for workers in entry.values() for worker in workers]
        assert len(holders) == len(set(holders)), f"image {image_idx}: a worker twice"
        assert all(len(workers) <= evals for workers in entry.values()), f"image {image_idx}: too many evaluations"


def free_places(stack: ImageStack) -> int:
    return sum(progress.needed for progress in stack.progress_by_model().values())


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """For thousands of draws whose durability is not the question: real files, without the wait for the platter."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "fdatasync", lambda _: None)


def test_images_are_filled_in_order_and_every_place_once(tmp_path: Path) -> None:
    with ImageStack(3, ["a", "b"], 2, tmp_path, rng=0) as stack:
        drawn = [stack.get_next_image(f"worker {number}") for number in range(12)]
        assert [draw.image_idx for draw in drawn] == [0] * 4 + [1] * 4 + [2] * 4
        assert collections.Counter((draw.image_idx, draw.model) for draw in drawn) == {
            (image_idx, model): 2 for image_idx in range(3) for model in "ab"
        }
        assert stack.full_images == 3
        assert stack.get_next_image("one more") == NO_MORE_WORK


def test_a_worker_gets_every_image_once_then_no_more_work(tmp_path: Path) -> None:
    with ImageStack(5, ["a", "b"], 3, tmp_path, rng=0) as stack:
        assert [stack.get_next_image("w").image_idx for _ in range(5)] == [0, 1, 2, 3, 4]
        assert stack.get_next_image("w") == NO_MORE_WORK
        assert stack.get_next_image("w") == NO_MORE_WORK
        assert free_places(stack) == 5 * 2 * 3 - 5
        assert stack.get_next_image("v").image_idx == 0


def test_a_place_given_back_goes_to_the_next_worker_but_never_to_the_same(tmp_path: Path) -> None:
    with ImageStack(3, ["a"], 1, tmp_path) as stack:
        assert stack.get_next_image("w") == Draw(0, "a", False)
        assert stack.get_next_image("v") == Draw(1, "a", False)
        assert stack.remove_worker("w", 0, "a")
        assert stack.get_next_image("w") == Draw(2, "a", False)
        assert stack.get_next_image("w") == NO_MORE_WORK
        assert stack.get_next_image("v") == Draw(0, "a", False)
    with ImageStack(3, ["a"], 1, tmp_path) as stack:
        assert stack.remove_worker("v", 0, "a")
        assert stack.get_next_image("w") == NO_MORE_WORK, "what they have seen outlives the run"
        assert stack.get_next_image("u") == Draw(0, "a", False)


def test_a_place_given_back_unseen_may_go_to_the_same_worker(tmp_path: Path) -> None:
    with ImageStack(2, ["a"], 1, tmp_path) as stack:
        assert stack.get_next_image("w") == Draw(0, "a", False)
        assert stack.get_next_image("w") == Draw(1, "a", False)
        assert stack.remove_worker("w", 0, "a", seen=False)
        assert stack.get_next_image("w") == Draw(0, "a", False)


def test_a_place_is_given_back_once(tmp_path: Path) -> None:
    with ImageStack(2, ["a", "b"], 1, tmp_path, rng=3) as stack:
        draw = stack.get_next_image("w")
        assert draw.image_idx is not None
        assert draw.model is not None
        other = {"a": "b", "b": "a"}[draw.model]
        assert not stack.remove_worker("w", 0, other)
        assert not stack.remove_worker("stranger", 0, draw.model)
        assert not stack.remove_worker("w", 7, draw.model)
        assert stack.remove_worker("w", 0, draw.model)
        assert not stack.remove_worker("w", 0, draw.model)
        assert free_places(stack) == 4


@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_the_model_is_uniform_among_those_that_an_image_still_needs(tmp_path: Path) -> None:
    models = ["a", "b", "c"]
    images = 2_000
    with ImageStack(images, models, 1, tmp_path, rng=11) as stack:
        order: dict[int, list[str]] = collections.defaultdict(list)
        for number in range(images * 3):
            draw = stack.get_next_image(f"w{number % 7}")
            assert draw.image_idx is not None
            assert draw.model is not None
            order[draw.image_idx].append(draw.model)
    # With one evaluation each, the three draws of an image are a permutation; uniform draws make all six as likely.
    permutations = collections.Counter(tuple(drawn) for drawn in order.values())
    assert len(permutations) == math.factorial(3)
    assert stats.chisquare(list(permutations.values())).pvalue > 0.01


@pytest.mark.usefixtures("no_waiting_for_the_disk")
def test_the_model_does_not_follow_how_many_evaluations_are_missing(tmp_path: Path) -> None:
    """Uniform among the models still needed, not among their places: 9 missing or 1 missing weigh the same."""
    images, evals = 3_000, 9
    saved = [{"nearly done": [f"old {n}" for n in range(evals - 1)], "fresh": []} for _ in range(images)]
    (tmp_path / "stack.json").write_text(json.dumps(saved), encoding="utf-8")
    with ImageStack(images, ["nearly done", "fresh"], evals, tmp_path, rng=5) as stack:
        counts = collections.Counter(stack.get_next_image("w").model for _ in range(images))
    assert stats.chisquare([counts["nearly done"], counts["fresh"]]).pvalue > 0.01


def test_the_same_seed_draws_the_same_models(tmp_path: Path) -> None:
    drawn = []
    for folder in ("one", "two"):
        with ImageStack(20, ["a", "b"], 1, tmp_path / folder, rng=42) as stack:
            drawn.append([stack.get_next_image(f"w{number}") for number in range(40)])
    assert drawn[0] == drawn[1]


def test_rules_hold_with_64_threads(tmp_path: Path) -> None:
    images, models, evals, threads, draws = 110, ["a", "b"], 24, 64, 100
    failures: list[BaseException] = []
    held: list[set[Place]] = [set() for _ in range(threads)]
    stack = ImageStack(images, models, evals, tmp_path, rng=1)

    def work(number: int) -> None:
        chance = random.Random(number)
        mine = held[number]
        try:
            for turn in range(draws):
                # Two workers a thread, and one that all threads share: nobody may get an image twice even so.
                worker = "shared" if turn % 50 == 0 else f"w{number}-{turn % 2}"
                draw = stack.get_next_image(worker)
                if draw.image_idx is None or draw.model is None:
                    continue
                place = Place(draw.image_idx, draw.model, worker)
                assert place not in mine
                outcome = chance.randrange(10)
                if outcome == 0:
                    assert stack.remove_worker(worker, draw.image_idx, draw.model)
                else:
                    mine.add(place)
                    if outcome < 4:
                        assert stack.finish(worker, draw.image_idx, draw.model)
        except BaseException as error:
            failures.append(error)

    crowd = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert not failures
    memory = stack.places()
    assert read_stack(tmp_path) == memory, "everything acknowledged is on disk before the stack is closed"
    stack.close()
    assert_rules_hold(memory, evals)
    everything = set().union(*held)
    assert sum(map(len, held)) == len(everything), "two threads got the same place"
    assert everything == {
        Place(image_idx, model, worker)
        for image_idx, entry in enumerate(memory)
        for model, workers in entry.items()
        for worker in workers
    }
    assert json.loads((tmp_path / "stack.json").read_text(encoding="utf-8")) == memory


def test_simulated_run_with_workers_who_leave_ends_with_every_place_filled_by_someone_new(tmp_path: Path) -> None:
    with ImageStack(5, ["a", "b"], 2, tmp_path, rng=9) as stack:
        chance = random.Random(2)
        seen: dict[str, list[int]] = collections.defaultdict(list)
        workers = [f"w{number}" for number in range(12)]
        while free_places(stack):
            worker = chance.choice(workers)
            draw = stack.get_next_image(worker)
            if draw.no_more_work:
                workers.remove(worker)
                continue
            assert draw.image_idx is not None
            assert draw.model is not None
            seen[worker].append(draw.image_idx)
            if chance.random() < 0.2:
                stack.remove_worker(worker, draw.image_idx, draw.model)
            else:
                stack.finish(worker, draw.image_idx, draw.model)
        assert_rules_hold(stack.places(), 2)
        assert all(len(images) == len(set(images)) for images in seen.values())
        assert stack.progress_by_model() == {"a": Progress(10, 0, 0), "b": Progress(10, 0, 0)}
        assert stack.full_images == 5


def test_progress_counts_finished_running_and_needed(tmp_path: Path) -> None:
    with ImageStack(2, ["a"], 2, tmp_path) as stack:
        stack.get_next_image("w")
        stack.get_next_image("v")
        assert stack.finish("w", 0, "a")
        assert not stack.finish("w", 0, "a"), "it no longer runs"
        assert not stack.finish("stranger", 0, "a")
        assert stack.progress_by_model() == {"a": Progress(finished=1, in_flight=1, needed=2)}
        assert stack.full_images == 1
        assert stack.in_flight() == [Place(0, "a", "v")]


def test_settle_keeps_finished_conversations_and_gives_the_rest_back(tmp_path: Path) -> None:
    with ImageStack(3, ["a"], 1, tmp_path) as stack:
        for worker in ("w", "v", "u"):
            stack.get_next_image(worker)
        stack.finish("w", 0, "a")
    with ImageStack(3, ["a"], 1, tmp_path) as stack:
        assert stack.in_flight() == [Place(1, "a", "v"), Place(2, "a", "u")]
        assert stack.settle([(1, "a", "v")]) == [Place(2, "a", "u")]
        assert stack.in_flight() == []
        assert stack.places() == [{"a": ["w"]}, {"a": ["v"]}, {"a": []}]
        assert stack.get_next_image("u") == NO_MORE_WORK, "they have seen it before the crash"
        assert stack.get_next_image("w") == Draw(2, "a", False)
        assert stack.settle([]) == [Place(2, "a", "w")], "what runs now counts as well: settle comes before the draws"


@pytest.mark.parametrize("worker", ["", 7, None, "\ud800"])
def test_an_unusable_worker_id_is_refused_before_anything_changes(tmp_path: Path, worker: object) -> None:
    with ImageStack(1, ["a"], 1, tmp_path) as stack:
        with pytest.raises(ValueError):
            stack.get_next_image(worker)  # type: ignore[arg-type]  # that is the point
        assert free_places(stack) == 1


def test_any_text_can_be_a_workers_or_a_models_name(tmp_path: Path) -> None:
    worker, model = 'A"\n\\ü\u2028🙂', 'folder/a "b"\n'
    with ImageStack(1, [model], 1, tmp_path) as stack:
        assert stack.get_next_image(worker) == Draw(0, model, False)
        assert read_stack(tmp_path) == [{model: [worker]}]
    assert json.loads((tmp_path / "stack.json").read_text(encoding="utf-8")) == [{model: [worker]}]


# What is on disk


def test_stack_json_has_its_documented_form_from_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there yet"
    with ImageStack(2, ["b", "a"], 1, folder) as stack:
        assert json.loads((folder / "stack.json").read_text(encoding="utf-8")) == [{"b": [], "a": []}] * 2
        draw = stack.get_next_image("w")
    assert json.loads((folder / "stack.json").read_text(encoding="utf-8"))[0][draw.model] == ["w"]


def test_reading_a_stack_sees_what_a_running_one_has_given_out(tmp_path: Path) -> None:
    assert read_stack(tmp_path) is None
    with ImageStack(2, ["a"], 1, tmp_path) as stack:
        stack.get_next_image("w")
        assert json.loads((tmp_path / "stack.json").read_text(encoding="utf-8")) == [{"a": []}, {"a": []}]
        assert read_stack(tmp_path) == [{"a": ["w"]}, {"a": []}]


def test_a_finished_stack_loads(tmp_path: Path) -> None:
    with ImageStack(2, ["a"], 1, tmp_path) as stack:
        stack.get_next_image("w")
        stack.get_next_image("w")
    with ImageStack(2, ["a"], 1, tmp_path) as stack:
        assert free_places(stack) == 0
        assert stack.get_next_image("v") == NO_MORE_WORK
        assert stack.remove_worker("w", 1, "a")
        assert stack.get_next_image("v") == Draw(1, "a", False)


def test_stack_json_alone_is_enough_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('[{"a": ["w"], "b": []}, {"a": [], "b": []}]', encoding="utf-8")
    with ImageStack(2, ["b", "a"], 1, tmp_path) as stack:
        assert stack.get_next_image("w").image_idx == 1
        assert stack.get_next_image("v") == Draw(0, "b", False)


def test_a_stack_over_the_limit_is_full_and_not_more(tmp_path: Path) -> None:
    """As when the limit was lowered between two runs, or a file from elsewhere has a worker twice."""
    (tmp_path / "stack.json").write_text('[{"a": ["w", "v", "v"]}, {"a": []}]', encoding="utf-8")
    with ImageStack(2, ["a"], 1, tmp_path) as stack:
        assert free_places(stack) == 1
        assert stack.get_next_image("u") == Draw(1, "a", False)
        assert stack.remove_worker("w", 0, "a")
        assert stack.remove_worker("v", 0, "a")
        assert stack.get_next_image("t") == NO_MORE_WORK
        assert stack.remove_worker("v", 0, "a", seen=False)
        assert stack.get_next_image("t") == Draw(0, "a", False)


def test_more_evaluations_than_before_open_the_images_again(tmp_path: Path) -> None:
    with ImageStack(1, ["a"], 1, tmp_path) as stack:
        stack.get_next_image("w")
    with ImageStack(1, ["a"], 2, tmp_path) as stack:
        assert stack.get_next_image("w") == NO_MORE_WORK
        assert stack.get_next_image("v") == Draw(0, "a", False)


def test_changed_models_are_stretched_after_a_backup(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ImageStack(2, ["stays", "goes"], 1, tmp_path, rng=1) as stack:
        for worker in ("w", "v", "u"):
            stack.get_next_image(worker)
        before = stack.places()
    gone = before[0]["goes"][0]
    with caplog.at_level(logging.WARNING), ImageStack(2, ["new", "stays"], 1, tmp_path, rng=1) as stack:
        assert stack.places() == [{"new": [], "stays": entry["stays"]} for entry in before]
        assert stack.get_next_image(gone).image_idx == 1, "they had image 0 with the model that is gone"
    (backup,) = tmp_path.glob("stack.backup_*.json")
    assert json.loads(backup.read_text(encoding="utf-8")) == before
    assert str(backup) in caplog.text
    assert re.fullmatch(r"stack\.backup_\d{8}_\d{6}\.json", backup.name)
    assert "kept ['stays'], new and empty ['new'], left out ['goes']" in caplog.text
    with ImageStack(2, ["stays", "goes"], 1, tmp_path, rng=1) as stack:
        assert stack.places()[0] == {"stays": before[0]["stays"], "goes": []}, "a model that comes back starts empty"
    assert len(list(tmp_path.glob("stack.backup_*.json"))) == 2


def test_the_order_of_the_models_is_no_change(tmp_path: Path) -> None:
    with ImageStack(1, ["a", "b"], 1, tmp_path) as stack:
        stack.get_next_image("w")
    with ImageStack(1, ["b", "a"], 1, tmp_path, on_model_change="stop") as stack:
        assert list(stack.places()[0]) == ["b", "a"]
    assert not list(tmp_path.glob("stack.backup_*"))


# What is refused, and in which words


def message(tmp_path: Path, *args: object, **keywords: object) -> str:
    with pytest.raises(ConfigurationError) as raised:
        ImageStack(*args, **keywords)  # type: ignore[arg-type]  # wrong ones among them
    return str(raised.value).replace(str(tmp_path), "FOLDER")


@pytest.mark.parametrize("on_change", ["stretch", "stop"])
def test_a_pair_that_is_written_the_other_way_round_keeps_its_workers(tmp_path: Path, on_change: str) -> None:
    with ImageStack(1, ["a|b", "a|c"], 1, tmp_path, rng=1) as stack:
        for worker in ("w1", "w2"):
            stack.get_next_image(worker)
    saved = read_stack(tmp_path)
    assert not find_stack_faults(1, ["c|a", "b|a"], 1, tmp_path, on_change)
    with ImageStack(1, ["c|a", "b|a"], 1, tmp_path, rng=1, on_model_change=on_change) as again:
        assert set(again.models) == {"a|b", "a|c"}
        assert again.get_next_image("w3") == NO_MORE_WORK
    assert read_stack(tmp_path) == saved
    assert not list(tmp_path.glob("stack.backup_*"))


def test_changed_models_with_stop(tmp_path: Path) -> None:
    ImageStack(1, ["a", "b"], 1, tmp_path).close()
    assert message(tmp_path, 1, ["a", "c"], 1, tmp_path, on_model_change="stop") == (
        "mephisto.blueprint.stack_folder=FOLDER: its stack is for the models ['a', 'b'], this run has ['a', 'c']; run "
        "the same models, name a new folder, or set mephisto.blueprint.stack_on_model_change=stretch."
    )
    assert read_stack(tmp_path) == [{"a": [], "b": []}]


def test_changed_number_of_images(tmp_path: Path) -> None:
    ImageStack(3, ["a"], 1, tmp_path).close()
    expected = (
        "mephisto.blueprint.stack_folder=FOLDER: its stack is for 3 images, and mephisto.blueprint.image_context_path "
        "has 2; use the image file that this stack was made with, or name a new folder."
    )
    assert message(tmp_path, 2, ["a"], 1, tmp_path) == expected
    faults = find_stack_faults(2, ["a"], 1, tmp_path)
    assert [fault.replace(str(tmp_path), "FOLDER") for fault in faults] == [expected]
    ImageStack(3, ["a"], 1, tmp_path).close()  # and the refused run has not kept the folder


def test_other_images_of_the_same_number(tmp_path: Path) -> None:
    ImageStack(1, ["a"], 1, tmp_path, images_id="birds").close()
    ImageStack(1, ["a"], 1, tmp_path).close()  # not checked, and not forgotten
    assert "for other images than those of" in message(tmp_path, 1, ["a"], 1, tmp_path, images_id="ships")
    ImageStack(1, ["a"], 1, tmp_path, images_id="birds").close()


def test_every_wrong_argument_is_named_at_once(tmp_path: Path) -> None:
    assert message(tmp_path, 0, ["a", "a"], 0, tmp_path, on_model_change="ask").split("\n") == [
        "mephisto.blueprint.image_context_path: it holds no image; make it with save_image_contexts.py.",
        "The models of the image stack are ['a', 'a']; give one or more nicknames, all different, none empty.",
        "mephisto.blueprint.evals_per_image_model_combo=0: give 1 or more.",
        "mephisto.blueprint.stack_on_model_change=ask: give 'stretch' or 'stop'.",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "it is not JSON"),
        ('[{"a": []}', "it is not JSON"),
        ('{"a": []}', "it is not a list of objects, one an image"),
        ('[{"a": []}, {"b": []}]', "image 1 has other models than image 0"),
        ('[{"a": [1]}]', "image 0 has something other than lists of worker ids"),
        ('[{"a": "w"}]', "image 0 has something other than lists of worker ids"),
    ],
)
def test_a_damaged_stack_json(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "stack.json").write_text(content, encoding="utf-8")
    told = message(tmp_path, 1, ["a"], 1, tmp_path)
    assert f"stack_folder=FOLDER: stack.json can't be used: {problem}" in told
    assert told.endswith("restore it from a backup, or name a new folder.")
    assert (tmp_path / "stack.json").read_text(encoding="utf-8") == content, "left as it is, for a look at it"


def test_a_stack_json_that_is_gone_is_not_taken_for_a_new_stack(tmp_path: Path) -> None:
    with ImageStack(1, ["a"], 1, tmp_path) as stack:
        stack.get_next_image("w")
    (tmp_path / "stack.json").unlink()
    assert "stack.json is gone, but its stack.journal is there" in message(tmp_path, 1, ["a"], 1, tmp_path)


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "name a folder you may write to" in message(tmp_path, 1, ["a"], 1, tmp_path / "file" / "stack")


def test_a_closed_stack_gives_nothing_out(tmp_path: Path) -> None:
    stack = ImageStack(1, ["a"], 1, tmp_path)
    assert stack.get_next_image("w").image_idx == 0
    stack.close()
    stack.close()
    for use in (
        stack.get_next_image,
        partial(stack.finish, image_idx=0, model="a"),
        partial(stack.remove_worker, image_idx=0, model="a"),
    ):
        with pytest.raises(RuntimeError):
            use("w")


def test_who_waits_for_another_ones_write_goes_on_when_that_is_over(tmp_path: Path) -> None:
    with ImageStack(1, ["a"], 1, tmp_path, rng=1) as stack:
        stack._take_turn()
        found: list[Draw] = []
        thread = threading.Thread(target=lambda: found.append(stack.get_next_image("w")), daemon=True)
        thread.start()
        while not stack._waiting:
            time.sleep(0.001)
        stack._end_turn()
        thread.join(30)
        assert [draw.image_idx for draw in found] == [0]
