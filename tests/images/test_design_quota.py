"""Image chats with conditions: cells fill evenly, the rules of the stack hold, and both survive whatever happens."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from model_chat.conversation.allocation import replay
from model_chat.conversation.design_quota import ALLOCATION_NAME
from model_chat.conversation.quota import Outlook
from model_chat.errors import ConfigurationError
from model_chat.images.design_quota import ImageDesignQuota
from model_chat.images.stack import StackWriteError, read_stack
from model_chat.records.journal import read_journal
from model_chat.tests import preloaded
from model_chat.tests.designs import BETWEEN, MIXED, arrivals, design_of, image_quota_of

PAIRS = """
factors:
  model: [a|b, a|c]
  num_turns: [2, 4]
between: [model]
within: [num_turns]
conversations_per_cell: %d
"""


def places(quota: ImageDesignQuota) -> list[tuple[int, str, str]]:
    """Image, model and worker of every place that the stack holds."""
    return [
        (image_idx, model, worker)
        for image_idx, image in enumerate(quota._stack.places())
        for model, workers in image.items()
        for worker in workers
    ]


def check_rules(quota: ImageDesignQuota, evals: int) -> None:
    """Hold the stack to the rules of image chat, and to the cells."""
    held = places(quota)
    assert max(Counter((image_idx, model) for image_idx, model, _ in held).values(), default=0) <= evals
    assert max(Counter((image_idx, worker) for image_idx, _, worker in held).values(), default=0) <= 1
    by_model = Counter(model for _, model, _ in held)
    for count, cell in zip(quota.counts(), quota.design.cells, strict=True):
        by_model[quota._model_of(cell.index)] -= count.done + count.in_flight
    assert not any(by_model.values()), "a conversation has a place in both or in neither"


@pytest.mark.parametrize(
    ("text", "models", "images"), [(BETWEEN % 100, "a,b", 40), (PAIRS % 100, "a|b,a|c", 40)], ids=["models", "pairs"]
)
def test_hundreds_of_arrivals_of_whom_a_fifth_leave_fill_the_cells_evenly(
    tmp_path: Path, text: str, models: str, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of them take minutes
    quota = image_quota_of(design_of(text), tmp_path, images, evals=6, models=models)

    for number, _ in enumerate(arrivals(quota, random.Random(1), count=400, at_once=1)):
        counts = [count.done for count in quota.counts()]
        assert max(counts) - min(counts) <= 1
        if number % 50 == 0:
            check_rules(quota, evals=6)
    for seed in range(100):  # the last ones to leave are replaced, too; some come again
        late = random.Random(seed)
        for _ in arrivals(quota, late, count=quota.remaining(), at_once=3, again=0.3, name=f"late{seed}"):
            pass

    assert [count.done for count in quota.counts()] == [100] * 4
    check_rules(quota, evals=6)
    replay(quota.design, read_journal(tmp_path / ALLOCATION_NAME), check_draws=True)
    quota.close()


def test_threads_fill_cells_and_images_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    quota = image_quota_of(design_of(MIXED % ("latin_square", 12)), tmp_path, images=18, evals=2)
    taken: list[tuple[str, int]] = []

    def come(number: int) -> None:
        rng = random.Random(number)
        for at in range(60):
            place = quota.take(f"w{number}-{at // 3}")
            if place is None:
                continue
            place.seen = True
            taken.append((place.worker, place.subject))
            place.release() if rng.random() < 0.2 else place.complete()

    threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(quota.remaining()):  # as many as the last ones have given back
        place = quota.take(f"late{number}")
        assert place is not None
        place.complete()

    assert [count.done for count in quota.counts()] == [12] * 6
    assert max(Counter(taken).values()) == 1, "an image that was seen is never offered again"
    check_rules(quota, evals=2)
    assert quota.outlook("somebody new") is Outlook.LATER
    assert quota.take("somebody new") is None
    quota.close()


def test_same_seed_and_arrivals_give_the_same_file(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        quota = image_quota_of(design_of(MIXED % ("random", 10)), folder, images=40)
        for _ in arrivals(quota, random.Random(5), count=60, at_once=4, again=0.3):
            pass
        quota.close()
        texts.append((folder / ALLOCATION_NAME).read_text())

    assert texts[0] == texts[1]
    assert '"image_idx"' in texts[0]


def test_images_are_filled_in_order_for_each_model(tmp_path: Path) -> None:
    quota = image_quota_of(design_of(MIXED % ("fixed", 2)), tmp_path, images=6)

    found = []
    for _ in range(3):
        for worker in ("first", "second"):
            place = quota.take(worker)
            assert place is not None
            place.seen = True
            place.complete()
            found.append((place.nickname, place.subject))

    assert [image_idx for nickname, image_idx in found if nickname == "a"] == [0, 1, 2]
    assert [image_idx for nickname, image_idx in found if nickname == "b"] == [0, 1, 2]
    quota.close()


def test_a_worker_without_a_new_image_for_a_model_goes_on_to_the_next_condition(tmp_path: Path) -> None:
    design = design_of(
        "factors: {model: [a, b], num_turns: [1, 2]}\nwithin: [model, num_turns]\norder: fixed\nconversations_per_cell: 1\n"
    )
    quota = image_quota_of(design, tmp_path, images=2)
    first = quota.take("ann")
    assert first is not None and (first.nickname, first.subject) == ("a", 0)
    first.seen = True
    first.release()  # image 0 is not for her any more, and of model a only image 0 and 1 are left
    again = quota.take("ann")
    assert again is not None and (again.condition.cell.index, again.subject) == (0, 1)
    again.seen = True

    assert quota.take("ann") is None, "she has seen both images"
    assert quota.outlook("ann") is Outlook.NOTHING
    other = quota.take("ben")
    assert other is not None and other.subject == 0
    quota.close()


def test_a_draw_that_cannot_be_written_holds_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = image_quota_of(design_of(BETWEEN % 1), tmp_path, images=2)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(quota._journal, "append", full)
        with pytest.raises(OSError, match="No space"):
            quota.take("ann")
    assert places(quota) == []
    assert sum(count.in_flight for count in quota.counts()) == 0
    place = quota.take("ann")
    assert place is not None
    assert place.subject == 0, "she has not seen it"
    quota.close()


def test_an_image_that_cannot_be_taken_leaves_the_cell_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = image_quota_of(design_of(BETWEEN % 1), tmp_path, images=2)

    def full(*_: Any, **__: Any) -> None:
        raise StackWriteError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(quota._stack, "get_next_image", full)
        with pytest.raises(StackWriteError):
            quota.take("ann")
    assert sum(count.in_flight for count in quota.counts()) == 0
    assert not (tmp_path / ALLOCATION_NAME).exists()
    assert quota.take("ann") is not None
    quota.close()


def test_a_place_that_the_stack_could_not_free_is_freed_with_the_next_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = image_quota_of(
        design_of("factors: {num_turns: [1, 2]}\nconversations_per_cell: 1\n"), tmp_path, 2, models="a"
    )
    held = [quota.take(worker) for worker in ("ann", "ben")]

    def full(*_: Any, **__: Any) -> bool:
        raise StackWriteError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(quota._stack, "remove_worker", full)
        assert held[0] is not None
        held[0].release()
    place = quota.take("cat")
    assert place is not None
    check_rules(quota, evals=1)
    assert quota.notes() == ["images: 2 of 2 given out in full"]
    quota.close()


@pytest.mark.parametrize(("images", "is_fine"), [(2, True), (1, False)])
def test_a_stack_without_room_is_refused_and_let_go(tmp_path: Path, images: int, is_fine: bool) -> None:
    quota = image_quota_of(design_of(BETWEEN % 1), tmp_path, images)
    if is_fine:
        quota.check_room()
        quota.close()
        return
    with pytest.raises(ConfigurationError) as refused:
        quota.check_room()
    assert len(refused.value.faults) == 2
    assert "asks for 2 more conversations with 'a', and the stack in" in refused.value.faults[0]
    assert "has places for 1; raise mephisto.blueprint.evals_per_image_model_combo" in refused.value.faults[0]
    image_quota_of(design_of(BETWEEN % 1), tmp_path, images).close()  # nobody holds the folder


def test_draws_of_another_design_are_refused_and_the_stack_is_let_go(tmp_path: Path) -> None:
    quota = image_quota_of(design_of(BETWEEN % 1), tmp_path, 2)
    quota.take("ann")
    quota.close()

    with pytest.raises(ConfigurationError, match="has begun with other factors"):
        image_quota_of(design_of((BETWEEN % 1).replace("seed: 7", "seed: 8")), tmp_path, 2)

    image_quota_of(design_of(BETWEEN % 1), tmp_path, 2).close()


CHILD = """
import sys
from pathlib import Path
from model_chat.tests.designs import MIXED, design_of, image_quota_of

folder, start = Path(sys.argv[1]), int(sys.argv[2])
design = design_of(MIXED % ("latin_square", 30))
lines = [line.split() for line in (folder / "records").read_text().splitlines()]
quota = image_quota_of(design, folder, 45, evals=2, finished=[(worker, int(cell), None) for worker, cell, *_ in lines])
quota.settle((int(image), model, worker) for worker, _, image, model in lines)
quota.check_room()
with (folder / "records").open("a", buffering=1) as records:
    for number in range(start, start + 10_000):
        place = quota.take(f"w{number % 100}")
        if place is None:
            continue
        place.seen = True
        if number % 5:
            records.write(f"{place.worker} {place.condition.cell.index} {place.subject} {place.nickname}\\n")
            place.complete()
        else:
            place.release()
        print(quota.remaining(), flush=True)
"""


def test_kill_9_in_the_middle_neither_loses_nor_doubles_a_conversation_or_an_image(tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.touch()
    for start in (0, 7, 14):
        child = preloaded.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(start)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        with child.stdout:
            for _ in range(20 + start):
                assert child.stdout.readline()
            child.send_signal(signal.SIGKILL)
            child.wait()

    design = design_of(MIXED % ("latin_square", 30))
    lines = [line.split() for line in records.read_text().splitlines()]
    finished = [(worker, int(cell), None) for worker, cell, *_ in lines]
    quota = image_quota_of(design, tmp_path, 45, evals=2, finished=finished)
    quota.settle((int(image_idx), model, worker) for worker, _, image_idx, model in lines)
    counts = Counter(cell for _, cell, _ in finished)
    assert [count.done for count in quota.counts()] == [counts[cell.index] for cell in design.cells]
    assert [count.in_flight for count in quota.counts()] == [0] * 6
    assert max(Counter(finished).values()) == 1
    assert sorted(places(quota)) == sorted((int(image_idx), model, worker) for worker, _, image_idx, model in lines)
    check_rules(quota, evals=2)
    quota.close()
    assert read_stack(tmp_path / "stack") is not None
