"""Cells fill evenly by finished conversations, a worker's sequence is fixed, and every draw can be recomputed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from model_chat.conversation.allocation import AllocationError, cell_of, replay
from model_chat.conversation.conditions import is_admitted
from model_chat.conversation.design_quota import ALLOCATION_NAME, DesignQuota
from model_chat.conversation.latin_squares import williams_square
from model_chat.conversation.quota import ConversationQuota, Outlook
from model_chat.errors import ConfigurationError
from model_chat.records.journal import read_journal
from model_chat.tests import preloaded
from model_chat.tests.designs import BETWEEN, MIXED, TASK, arrivals, design_of, end, quota_of


def done(quota: DesignQuota) -> list[int]:
    return [count.done for count in quota.counts()]


def lines(folder: Path) -> list[dict[str, object]]:
    return read_journal(folder / ALLOCATION_NAME)


# --- evenness ---


@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_arrivals_of_whom_a_fifth_leave_fill_the_cells_evenly(tmp_path: Path, seed: int) -> None:
    quota = quota_of(design_of(BETWEEN % 400), tmp_path)

    for _ in arrivals(quota, random.Random(seed), count=1000, at_once=1):
        counts = done(quota)
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("order", ["latin_square", "random", "fixed"])
@pytest.mark.parametrize("text", [BETWEEN % 180, MIXED])
def test_with_many_at_once_each_cell_ends_with_exactly_what_it_needs(tmp_path: Path, text: str, order: str) -> None:
    quota = quota_of(design_of(text if text is not MIXED else MIXED % (order, 100)), tmp_path)

    for _ in arrivals(quota, random.Random(3), count=1000, at_once=12, again=0.4):
        assert all(count.done + count.in_flight <= count.needed for count in quota.counts())
    for seed in range(100):  # the last ones to leave are replaced, too
        for _ in arrivals(quota, random.Random(seed), count=quota.remaining(), at_once=1, name=f"late{seed}"):
            pass

    assert quota.remaining() == 0
    assert len(set(done(quota))) == 1


def test_threads_fill_the_cells_exactly(tmp_path: Path) -> None:
    quota = quota_of(design_of(BETWEEN % 50), tmp_path)

    def come(number: int) -> None:
        rng = random.Random(number)
        for at in range(250 // 8 + 8):
            place = quota.take(f"w{number}-{at}")
            time.sleep(rng.random() / 2000)
            if place is not None:
                end(place, rng)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    counts = done(quota)
    assert max(counts) <= 50
    assert max(counts) - min(counts) <= 8  # as many as are open at once may leave last
    while (place := quota.take(f"late{quota.remaining()}-{random.random()}")) is not None:
        place.complete()
    assert done(quota) == [50] * 4
    assert [count.in_flight for count in quota.counts()] == [0] * 4


def test_a_place_is_settled_once(tmp_path: Path) -> None:
    quota = quota_of(design_of(BETWEEN % 2), tmp_path)
    place = quota.take("w")
    assert place is not None

    place.complete()
    place.complete()
    place.release()

    assert sum(done(quota)) == 1


# --- sequences ---


def test_a_worker_keeps_the_sequence_and_leaving_gives_the_same_condition_again(tmp_path: Path) -> None:
    design = design_of(MIXED % ("latin_square", 5))
    quota = quota_of(design, tmp_path)
    first = quota.take("w")
    assert first is not None
    first.release()

    cells = []
    while (place := quota.take("w")) is not None:
        cells.append(place.condition.cell)
        place.complete()

    assert cells[0] == first.condition.cell
    assert len({cell.conditions["num_turns"] for cell in cells}) == 3
    assert len({cell.conditions["model"] for cell in cells}) == 1
    assert quota.outlook("w") is Outlook.NOTHING
    assert quota.outlook("new") is Outlook.WORK


def test_two_conversations_of_one_worker_at_once_are_of_different_conditions(tmp_path: Path) -> None:
    quota = quota_of(design_of(MIXED % ("fixed", 5)), tmp_path)

    places = [quota.take("w") for _ in range(4)]

    assert len({place.condition.cell.index for place in places if place is not None}) == 3
    assert places[3] is None
    assert quota.outlook("w") is Outlook.LATER


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_workers_who_finish_go_through_a_whole_square_equally_often(tmp_path: Path, levels: int) -> None:
    numbers = ", ".join(map(str, range(1, levels + 1)))
    text = f"factors: {{num_turns: [{numbers}]}}\nwithin: num_turns\nconversations_per_cell: 1000\n"
    quota = quota_of(design_of(text), tmp_path)
    rows = williams_square(levels)

    sequences: Counter[tuple[int, ...]] = Counter()
    for number in range(2 * len(rows)):
        cells = []
        while (place := quota.take(f"w{number}")) is not None:
            cells.append(place.condition.cell.index)
            place.complete()
        sequences[tuple(cells)] += 1

    assert sequences == dict.fromkeys(rows, 2)


def test_without_within_factors_a_worker_stays_in_their_cell(tmp_path: Path) -> None:
    quota = quota_of(design_of(BETWEEN % 3), tmp_path)

    cells = []
    while (place := quota.take("w")) is not None:
        cells.append(place.condition.cell.index)
        place.complete()

    assert cells == [cells[0]] * 3
    assert quota.outlook("w") is Outlook.NOTHING


# --- the file ---


def test_same_seed_and_arrivals_give_the_same_file_and_another_seed_another(tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        folder = tmp_path / name
        folder.mkdir()
        quota = quota_of(design_of((BETWEEN % 40).replace("seed: 7", f"seed: {seed}")), folder)
        for _ in arrivals(quota, random.Random(5), count=100, at_once=4):
            pass
        quota.close()
        texts.append((folder / ALLOCATION_NAME).read_text())

    assert texts[0] == texts[1]
    draws = [[line.partition('"sequence"')[2] for line in text.splitlines()] for text in texts]
    assert draws[0] != draws[2]


@pytest.mark.parametrize("order", ["latin_square", "random", "fixed"])
def test_every_draw_can_be_recomputed_from_the_file(tmp_path: Path, order: str) -> None:
    design = design_of(MIXED % (order, 20))
    quota = quota_of(design, tmp_path)
    for _ in arrivals(quota, random.Random(5), count=200, at_once=4, again=0.3):
        pass

    state = replay(design, lines(tmp_path), check_draws=True)
    assert state.done == done(quota)

    entries = lines(tmp_path)
    changed = next(entry for entry in entries if entry["event"] == "arrive")
    changed["sequence"] = [99]
    with pytest.raises(AllocationError):
        replay(design, entries, check_draws=True)


def test_a_draw_that_cannot_be_written_does_not_count(tmp_path: Path) -> None:
    quota = quota_of(design_of(BETWEEN % 3), tmp_path / "missing")

    with pytest.raises(OSError, match="missing"):
        quota.take("w")

    assert sum(count.in_flight for count in quota.counts()) == 0
    (tmp_path / "missing").mkdir()
    place = quota.take("w")
    assert place is not None
    assert [entry["event"] for entry in lines(tmp_path / "missing")] == ["start", "arrive", "take"]


def test_an_ending_that_cannot_be_written_counts_and_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = quota_of(design_of(BETWEEN % 3), tmp_path)
    place = quota.take("w")
    assert place is not None
    with monkeypatch.context() as broken:
        broken.setattr("model_chat.records.journal.PAUSE_SECONDS", 0)
        broken.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        place.complete()

    assert sum(done(quota)) == 1
    quota.close()
    assert [entry["event"] for entry in lines(tmp_path)] == ["start", "arrive", "take", "finish"]


# --- restarts ---


def test_a_restart_in_the_middle_goes_on_with_the_same_sequences_and_counts(tmp_path: Path) -> None:
    design = design_of(MIXED % ("latin_square", 40))
    rng = random.Random(9)
    saved: list[tuple[str, int, str | None]] = []
    sequences: dict[str, set[int]] = {}
    for _ in range(30):
        quota = quota_of(design, tmp_path, finished=saved)
        assert sum(done(quota)) == len(saved)
        for _ in range(40):
            worker = f"w{rng.randrange(150)}"
            place = quota.take(worker)
            if place is None:
                continue
            sequences.setdefault(worker, set()).add(place.condition.cell.index)
            if rng.random() < 0.7:
                saved.append((worker, place.condition.cell.index, None))  # the record comes first
                if rng.random() < 0.8:  # else the run dies between the record and its count
                    place.complete()
            elif rng.random() < 0.5:
                place.release()
        quota.close()

    quota = quota_of(design, tmp_path, finished=saved)
    counts = Counter(cell for _, cell, _ in saved)
    assert done(quota) == [counts[cell.index] for cell in design.cells]
    assert max(counts.values()) <= 40
    assert max(Counter(saved).values()) == 1
    assert all(len({design.cells[cell].conditions["model"] for cell in cells}) == 1 for cells in sequences.values())
    replay(design, lines(tmp_path), check_draws=True)


def test_what_was_rejected_or_is_only_in_the_records_is_counted_anew(tmp_path: Path) -> None:
    design = design_of(MIXED % ("fixed", 5))
    quota = quota_of(design, tmp_path)
    place = quota.take("gone")
    assert place is not None
    place.complete()
    quota.close()

    quota = quota_of(design, tmp_path, finished=[("found", 4, None)])

    assert done(quota) == [0, 0, 0, 0, 1, 0]
    place = quota.take("found")
    assert place is not None
    assert place.condition.cell.conditions["model"] == "b"
    assert place.condition.cell.index != 4


def test_without_resume_everything_starts_afresh(tmp_path: Path) -> None:
    design = design_of(BETWEEN % 1)
    cells = []
    for _ in range(3):
        quota = quota_of(design, tmp_path, resume=False)
        place = quota.take("w")
        assert place is not None
        cells.append(place.condition.cell.index)
        place.complete()
        quota.close()

    again = quota_of(design, tmp_path, finished=[("w", cells[-1], None)])
    assert sum(done(again)) == 1
    assert again.outlook("w") is Outlook.NOTHING


def test_another_tasks_draws_in_the_same_file_do_not_count(tmp_path: Path) -> None:
    design = design_of(BETWEEN % 1)
    other = DesignQuota(design_of(BETWEEN % 9), tmp_path / ALLOCATION_NAME, "other_local")
    while (place := other.take(str(random.random()))) is not None:
        place.complete()

    assert quota_of(design, tmp_path).remaining() == 4


def test_a_changed_design_is_refused_and_more_conversations_are_not(tmp_path: Path) -> None:
    quota = quota_of(design_of(BETWEEN % 1), tmp_path)
    assert quota.take("w") is not None
    quota.close()

    assert quota_of(design_of(BETWEEN % 2), tmp_path).wanted() == 8
    with pytest.raises(ConfigurationError, match="has begun with other factors"):
        quota_of(design_of((BETWEEN % 1).replace("Be warm.", "Be cold.")), tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    design = design_of(BETWEEN % 1)
    quota = quota_of(design, tmp_path)
    assert quota.take("w") is not None
    quota.close()
    with (tmp_path / ALLOCATION_NAME).open("a") as file:
        file.write(json.dumps({"task": TASK, "event": "finish", "number": 12}) + "\n")

    with pytest.raises(ConfigurationError, match="is damaged"):
        quota_of(design, tmp_path)


ARRIVE = {"event": "arrive", "worker_id": "w", "sequence": [0]}
TAKE = {"event": "take", "number": 0, "worker_id": "w", "cell": 0}


@pytest.mark.parametrize(
    "entries",
    [
        *(
            [{**ARRIVE, "sequence": sequence}]
            for sequence in ([99], [-1], [], ["0"], [None], [True], [1.5], [[0]], "0", 3)
        ),
        [ARRIVE, ARRIVE],
        [{**ARRIVE, "worker_id": ["w"]}],
        *([ARRIVE, {**TAKE, "cell": cell}] for cell in (99, -1, "0", None, True, 0.0)),
        *([ARRIVE, {**TAKE, "number": number}] for number in (-1, "0", None, True, 0.5)),
        [ARRIVE, TAKE, TAKE],
        [TAKE],
        [ARRIVE, TAKE, *[{"event": "stratum", "number": 0, "answer": "old"}] * 2],
        [ARRIVE, TAKE, {"event": "stratum", "number": 1, "answer": "old"}],
        [{"event": "count", "worker_id": "w", "cell": -1, "by": 1}],
        [{"event": "count", "worker_id": "w", "cell": 0, "by": "1"}],
        *(
            [{"event": "start", "design": "d", "conversations_per_cell": many, "resume": True}]
            for many in (None, "2", -1, 2.5)
        ),
        [{"event": "unknown"}],
        [{}],
    ],
    ids=lambda entries: json.dumps(entries)[-60:],
)
def test_entries_that_no_run_has_written_are_refused_and_break_nothing_later(entries: list[dict[str, object]]) -> None:
    with pytest.raises(AllocationError):
        replay(design_of(STRATA), entries)


CHILD = """
import sys
from pathlib import Path
from model_chat.tests.designs import MIXED, design_of, quota_of
folder, start = Path(sys.argv[1]), int(sys.argv[2])
design = design_of(MIXED % ("latin_square", 60))
saved = [(w, int(c), None) for w, c in (line.split() for line in (folder / "records").read_text().splitlines())]
quota = quota_of(design, folder, finished=saved)
with (folder / "records").open("a", buffering=1) as records:
    for number in range(start, start + 10_000):
        place = quota.take(f"w{number % 300}")
        if place is None:
            continue
        if number % 5:
            records.write(f"w{number % 300} {place.condition.cell.index}\\n")
            place.complete()
        else:
            place.release()
        print(quota.remaining(), flush=True)
"""


def test_kill_9_in_the_middle_neither_loses_nor_doubles_a_conversation(tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.touch()
    for start in (0, 7, 14):
        child = preloaded.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(start)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        with child.stdout:
            for _ in range(40 + start):
                child.stdout.readline()
            child.send_signal(signal.SIGKILL)
            child.wait()

    design = design_of(MIXED % ("latin_square", 60))
    saved: list[tuple[str, int, str | None]] = []
    for line in records.read_text().splitlines():
        worker, cell = line.split()
        saved.append((worker, int(cell), None))
    quota = quota_of(design, tmp_path, finished=saved)
    counts = Counter(cell for _, cell, _ in saved)
    assert done(quota) == [counts[cell.index] for cell in design.cells]
    assert [count.in_flight for count in quota.counts()] == [0] * 6
    assert max(Counter(saved).values()) == 1
    assert max(counts.values()) - min(counts[cell.index] for cell in design.cells) <= 3
    for worker in {worker for worker, _, _ in saved}:
        models = {design.cells[cell].conditions["model"] for who, cell, _ in saved if who == worker}
        assert len(models) == 1


# --- strata ---

STRATA = BETWEEN % 2 + "strata: {age_band: {young: 5, old: 3}}\n"


def test_a_full_stratum_takes_no_more_and_who_leaves_gives_its_place_back(tmp_path: Path) -> None:
    quota = quota_of(design_of(STRATA), tmp_path)
    places = [quota.take(f"w{number}") for number in range(6)]
    assert None not in places
    olds = [place for place in places if place is not None]

    assert [quota.enter_stratum(place, "old") for place in olds[:4]] == [True, True, True, False]
    assert not quota.enter_stratum(olds[4], "unasked")
    olds[3].release()
    olds[0].release()
    assert quota.enter_stratum(olds[4], "old")
    olds[4].complete()
    quota.close()

    assert quota.notes() == ["age_band young: 0 of 5", "age_band old: 1 of 3"]
    again = quota_of(design_of(STRATA), tmp_path, finished=[("w4", olds[4].condition.cell.index, "old")])
    assert again.notes() == ["age_band young: 0 of 5", "age_band old: 1 of 3"]
    rejected = quota_of(design_of(STRATA), tmp_path)
    assert rejected.notes() == ["age_band young: 0 of 5", "age_band old: 0 of 3"]
    (tmp_path / "new").mkdir()
    lost = quota_of(
        design_of(STRATA), tmp_path / "new", finished=[("w4", olds[4].condition.cell.index, "old"), ("w5", 0, None)]
    )
    assert lost.notes() == ["age_band young: 0 of 5", "age_band old: 1 of 3"]


def test_a_conversation_that_is_over_enters_no_stratum_and_leaves_the_file_whole(tmp_path: Path) -> None:
    quota = quota_of(design_of(STRATA), tmp_path)
    place = quota.take("w")
    assert place is not None
    place.release()

    assert not quota.enter_stratum(place, "old")
    quota.close()
    assert quota_of(design_of(STRATA), tmp_path).notes() == ["age_band young: 0 of 5", "age_band old: 0 of 3"]


def test_who_is_admitted_is_decided_by_the_item_of_the_strata(tmp_path: Path) -> None:
    quota = quota_of(design_of(STRATA), tmp_path)
    first, second = quota.take("w1"), quota.take("w2")
    assert first is not None
    assert second is not None

    assert is_admitted(first, {"age_band": "young", "other": "old"})
    assert not is_admitted(second, {"other": "old"})
    without_design = ConversationQuota({"m": 1}).take("w")
    assert without_design is not None
    assert is_admitted(without_design, {})
    unstratified = quota_of(design_of(BETWEEN % 1), tmp_path / "b", resume=False)
    (tmp_path / "b").mkdir()
    place = unstratified.take("w")
    assert place is not None
    assert is_admitted(place, {})


def test_saved_conditions_are_those_of_one_cell() -> None:
    design = design_of(BETWEEN % 1)

    assert cell_of(design, {"model": "b", "prompt": "warm"}) == design.cells[2]
    assert cell_of(design, {"model": "b"}) is None
    assert cell_of(design, None) is None


def test_what_a_full_disk_has_kept_from_the_file_at_the_end_is_said_and_known_from_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    quota = quota_of(design_of(BETWEEN % 2), tmp_path)
    place = quota.take("w")
    assert place is not None
    monkeypatch.setattr(quota, "_write", full)
    place.complete()
    quota.close()
    assert f"{ALLOCATION_NAME} can't be written" in caplog.text
    monkeypatch.undo()
    assert done(quota_of(design_of(BETWEEN % 2), tmp_path, finished=[("w", 0, None)])) == done(quota) == [1, 0, 0, 0]
