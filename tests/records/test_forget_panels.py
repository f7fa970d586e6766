"""Forgetting a panel's participant: the ids of their submission and what they were told go, too."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from model_chat.crowd.panel_store import PanelStore, ToldEnding, store_path
from model_chat.records.forget import forget_worker
from model_chat.tests.mephisto_run import Run

PART = {
    "provider": "prolific",
    "participant": "p1",
    "study": "s1",
    "session": "e1-of-p1",
    "ending": "complete",
    "code": "C",
}


def test_ids_of_the_panel_are_removed_from_records_and_from_what_was_told(tmp_path: Path) -> None:
    run = Run(tmp_path)
    (tmp_path / "prolific").mkdir()
    store = PanelStore(store_path(tmp_path, "prolific"))
    for participant in ("p1", "p2"):
        store.keep_ending("study", ToldEnding(participant, "s1", f"e1-of-{participant}", "complete", "C"))
        store.use_link(f"digest-{participant}", participant, "s1", f"e1-of-{participant}", "browser")
    store.close()
    chats = tmp_path / "chats/2026_11_28"
    chats.mkdir(parents=True)
    for participant in ("p1", "p2"):
        part = {**PART, "participant": participant, "session": f"e1-of-{participant}"}
        saved = {"dialog": [], "workers": [participant], "participation": part}
        (chats / f"{participant}.json").write_text(json.dumps(saved), encoding="utf-8")
    forgotten = forget_worker("p1", Path(run.db.db_path), [tmp_path / "chats"])
    changed, kept = (json.loads((chats / f"{name}.json").read_bytes())["participation"] for name in ("p1", "p2"))
    assert (changed["participant"], changed["session"]) == (forgotten.pseudonym, None)
    assert (kept["participant"], kept["session"]) == ("p2", "e1-of-p2")
    with closing(sqlite3.connect(store_path(tmp_path, "prolific"))) as connection:
        for table in ("endings", "links"):
            assert connection.execute(f"SELECT participant FROM {table}").fetchall() == [("p2",)]
    assert b"e1-of-p1" not in store_path(tmp_path, "prolific").read_bytes()
