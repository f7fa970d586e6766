"""Who is given which finished conversation: exactly so many people each, nobody twice, whoever leaves or whatever dies."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from model_chat.conversation.annotation_quota import AnnotationQuota
from model_chat.conversation.quota import Outlook, Reservation
from model_chat.records.conversation_logs import LoggedConversation, LogLine
from model_chat.records.journal import ALLOCATION_NAME, read_journal
from model_chat.tests import preloaded


def logs(number: int, model: str = "a") -> list[LoggedConversation]:
    return [
        LoggedConversation(f"log {i}", (LogLine(0, f"question {i}"), LogLine(1, "answer")), model)
        for i in range(number)
    ]


def quota(
    folder: Path,
    conversations: list[LoggedConversation],
    annotators: int = 3,
    per_worker: int = 0,
    kept: Iterable[tuple[str, str, bool]] = (),
) -> AnnotationQuota:
    return AnnotationQuota(conversations, annotators, per_worker, folder / ALLOCATION_NAME, "t", kept)


def test_two_hundred_conversations_get_exactly_three_people_each_though_a_fifth_of_them_leave(tmp_path: Path) -> None:
    """Eight threads of workers at once; everybody who is given a conversation leaves it with a chance of 20 %."""
    conversations = logs(200)
    given = quota(tmp_path, conversations, per_worker=10)
    names = itertools.count()  # without an end: who arrives while the last ones are held gets nothing
    lock = threading.Lock()
    finished: list[tuple[str, str]] = []
    held: list[tuple[str, str]] = []

    def live(seed: int) -> None:
        rng = random.Random(seed)
        while given.remaining():
            worker = f"w{next(names)}"
            while (place := given.take(worker)) is not None:
                leaves = rng.random() < 0.2
                with lock:
                    held.append((worker, place.subject.sha256))
                    if not leaves:
                        finished.append((worker, place.subject.sha256))
                place.release() if leaves else place.complete()

    threads = [threading.Thread(target=live, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given.remaining() == 0
    assert Counter(sha256 for _, sha256 in finished) == dict.fromkeys((log.sha256 for log in conversations), 3)
    assert len(held) == len(set(held))  # nobody was given one twice, not even one that they had left
    assert len(held) > len(finished)
    assert max(Counter(worker for worker, _ in finished).values()) <= 10


def test_conversations_in_flight_count_as_annotated(tmp_path: Path) -> None:
    given = quota(tmp_path, logs(1), annotators=2)
    first, second = given.take("a"), given.take("b")
    assert first is not None
    assert second is not None
    assert given.take("c") is None
    assert given.outlook("c") is Outlook.LATER
    second.release()
    assert given.outlook("c") is Outlook.WORK
    assert given.outlook("b") is Outlook.NOTHING  # who has left it does not get it again


def test_a_reservation_ends_once(tmp_path: Path) -> None:
    given = quota(tmp_path, logs(1), annotators=2)
    place = given.take("a")
    assert place is not None
    place.complete()
    place.release()
    place.complete()
    assert given.counts()[0].done == 1
    assert given.counts()[0].in_flight == 0


def test_the_conversation_with_fewest_annotations_comes_first(tmp_path: Path) -> None:
    conversations = logs(4)
    kept = [
        ("x", conversations[0].sha256, True),
        ("x", conversations[1].sha256, True),
        ("y", conversations[2].sha256, True),
    ]
    place = quota(tmp_path, conversations, kept=kept).take("a")
    assert place is not None
    assert place.subject.id == "log 3"


def test_one_worker_gets_no_more_than_the_limit_and_one_that_was_left_does_not_count(tmp_path: Path) -> None:
    given = quota(tmp_path, logs(5), per_worker=2)
    places = [given.take("a"), given.take("a")]
    assert given.take("a") is None
    assert given.outlook("a") is Outlook.LATER
    assert places[0] is not None
    places[0].release()
    again = given.take("a")
    assert again is not None
    assert again.subject.sha256 not in [place.subject.sha256 for place in places if place is not None]
    for place in (places[1], again):
        assert place is not None
        place.complete()
    assert given.outlook("a") is Outlook.NOTHING
    assert given.outlook("b") is Outlook.WORK


def test_who_had_the_conversation_with_the_model_does_not_judge_it(tmp_path: Path) -> None:
    own = LoggedConversation("own", (LogLine(1, "hello"),), worker_id="a")
    given = quota(tmp_path, [own])
    assert given.take("a") is None
    assert given.take("b") is not None


def test_another_run_counts_what_is_saved_and_gives_nobody_the_same_again(tmp_path: Path) -> None:
    conversations = logs(2)
    first = quota(tmp_path, conversations, annotators=2)
    place = first.take("a")
    assert place is not None
    left = place.subject
    first.close()  # the run dies: "a" was shown it and has done nothing, so there is no record of it
    second = quota(tmp_path, conversations, annotators=2, kept=[("b", left.sha256, True), ("c", left.sha256, False)])
    assert second.remaining() == 3
    taken = [second.take(worker) for worker in ("a", "b", "c")]
    assert [place.subject.sha256 == left.sha256 for place in taken if place is not None] == [False, False]
    assert second.take("d") is not None


def test_other_tasks_with_the_same_folder_count_for_themselves(tmp_path: Path) -> None:
    conversations = logs(1)
    other = AnnotationQuota(conversations, 1, 0, tmp_path / ALLOCATION_NAME, "another", ())
    assert other.take("a") is not None
    assert quota(tmp_path, conversations).take("a") is not None


def test_what_cannot_be_put_on_disk_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = quota(tmp_path, logs(1), annotators=1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(given._journal, "append", full)
    with pytest.raises(OSError, match="No space"):
        given.take("a")
    monkeypatch.undo()
    place = given.take("a")
    assert isinstance(place, Reservation)


KILLED = """
import sys
from pathlib import Path
from model_chat.conversation.annotation_quota import AnnotationQuota
from model_chat.records.conversation_logs import LoggedConversation, LogLine
logs = [LoggedConversation(f"log {i}", (LogLine(0, f"question {i}"), LogLine(1, "answer")), "a") for i in range(2000)]
given = AnnotationQuota(logs, 3, 0, Path(sys.argv[1]) / "allocation.jsonl", "t")
number = 0
while True:
    place = given.take(f"w{number}")
    print(f"w{number}", place.subject.sha256, flush=True)
    place.release()
    number = (number + 1) % 5
"""


def test_whoever_was_shown_a_conversation_before_kill_9_is_known_afterwards(tmp_path: Path) -> None:
    process = preloaded.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    shown = [process.stdout.readline().split() for _ in range(60)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    shown += [line.split() for line in process.stdout if len(line.split()[-1]) == 64]
    known = {(entry["worker_id"], entry["log"]) for entry in read_journal(tmp_path / ALLOCATION_NAME)}
    assert {(worker, sha256) for worker, sha256 in shown} <= known
    after = quota(tmp_path, logs(2000))
    for worker in {worker for worker, _ in shown}:
        place = after.take(worker)
        assert place is not None
        assert (worker, place.subject.sha256) not in {tuple(one) for one in shown}
