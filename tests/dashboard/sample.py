"""A study with conversations of all kinds in a real database of Mephisto's, for tests and for looking at the page.

    python -m model_chat.tests.dashboard.sample --folder /tmp/sample --conversations 200 --port 9300 --live

serves it, with a run that is made up.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

from model_chat import compat as compat
from model_chat.crowd.ledger import Bonus, Ledger
from model_chat.dashboard.access import Access
from model_chat.dashboard.live import Chatting, Count, LiveState, Replies, RunAct
from model_chat.dashboard.server import serve
from model_chat.dashboard.settings import Role
from model_chat.dashboard.sockets import address_of, bind
from model_chat.dashboard.study import StudyInfo, slug
from model_chat.dashboard.watch import Watched
from model_chat.quality.blocks import find_worker
from model_chat.records.schema import Completion, Conversation, Generation, TaskDescription, Timing, Utterance
from model_chat.records.writing import save_conversation
from model_chat.tests.mephisto_run import Run

TASK = "study_local"
QUESTION = "How good was your chat partner overall?"
BOXES = {"bucket_0": "Contradicts itself", "bucket_1": "Is rude", "none_all_good": "Nothing is wrong"}
START = 1_790_000_000.0
LINES = (
    "I went hiking in the hills.",
    "Do you like cats?",
    "<b>Bold</b> & 'quoted' <script>alert(1)</script>",
    "Ja, gern!",
)


class SampleStudy:
    """A task in a database of its own, with its folder of conversations."""

    def __init__(self, folder: Path, task_name: str = TASK) -> None:
        data = folder / "mephisto"
        data.mkdir(parents=True)
        self.chats = folder / "conversations"
        self.run = Run(data, task_name)
        self.db = self.run.db
        self.data, self.task_name = data, task_name
        self.number = 0

    def info(self, **changes: Any) -> StudyInfo:
        """What the dashboard is told of it."""
        known: dict[str, Any] = {
            "id": slug(self.task_name),
            "title": "Chat with a partner",
            "task_name": self.task_name,
            "database": self.data / "database.db",
            "chat_data_folder": self.chats,
            "wanted": {"alpha": 20, "beta": 20},
            "target": 40,
            "num_turns": 2,
            "reward": 50,
            "block_qualification": "blocked",
        }
        return StudyInfo(**{**known, **changes})

    def chat(
        self,
        worker: str = "ann",
        model: str = "alpha",
        minutes: float = 6.0,
        rating: int | None = 4,
        reason: str | None = None,
        violations: str = "",
        started: float = START,
        status: str = "completed",
        turns: int = 2,
        text: str = LINES[0],
        as_file: bool = True,
        conditions: dict[str, str] | None = None,
        **more: Any,
    ) -> Any:
        """Let a worker have had a conversation; return Mephisto's agent."""
        from mephisto.abstractions.providers.mock.mock_agent import MockAgent
        from mephisto.data_model.worker import Worker

        self.number += 1
        found = find_worker(self.db, "mock", worker)
        if found is None:
            found = Worker.get(self.db, self.db.new_worker(f"{worker}_sandbox", "mock"))
        agent = MockAgent.new(self.db, found, self.run.unit())
        step = minutes * 60 / max(1, 2 * turns)
        dialog = [Utterance(agent_idx=0, text="Hi!", id="Speaker 1", fake_start=True, timestamp=started)]
        for turn in range(turns):
            at = started + step * (2 * turn + 1)
            timing = Timing(shown=at - 8, first_key=at - 5, sent=at)
            marks = {box: box == ("none_all_good" if (self.number + turn) % 3 else "bucket_0") for box in BOXES}
            last = str(rating) if rating is not None and turn == turns - 1 else None
            dialog += [
                Utterance(agent_idx=0, text=f"{text} {self.number}", id="Speaker 1", timestamp=at, timing=timing),
                Utterance(
                    agent_idx=1,
                    text=f"Reply {turn} of the model to {self.number}.",
                    id="Speaker 2",
                    timestamp=at + step,
                    problem_data=marks,
                    final_rating=last,
                    model_nickname=model.split("|")[turn % 2] if "|" in model else None,
                    generation=Generation(seconds=0.5 + turn, finish_reason="stop"),
                ),
            ]
        record = Conversation(
            dialog=more.pop("dialog", dialog),
            workers=[worker],
            acceptability_violations=[violations],
            hit_ids=[str(self.number)],
            assignment_ids=[str(self.number)],
            task_description=TaskDescription(
                model_nickname=model,
                annotations_config=json.dumps({"config": {key: {"name": name} for key, name in BOXES.items()}}),
                final_rating_question=QUESTION,
            ),
            status=Completion.COMPLETE if reason is None else Completion.INCOMPLETE,
            reason=reason,
            conditions=conditions,
            task_name=self.task_name,
            **more,
        ).to_dict()
        agent.state.record_world_data({"custom_data": record})
        if as_file:
            save_conversation(self.chats, record, live=False)
        agent.update_status(status)
        return agent

    def status(self, agent: Any) -> str:
        """An agent's status in the database."""
        return str(self.db.get_agent(agent.db_id)["status"])

    def fill(self, conversations: int, seed: int = 1) -> None:
        """Let so many conversations have taken place, of all kinds, in the last two days."""
        draw = random.Random(seed)
        begin = time.time() - 2 * 24 * 3600
        for number in range(conversations):
            kind = draw.random()
            more: dict[str, Any] = {}
            if kind < 0.1:
                more = {"reason": "disconnected: the worker's page went away", "status": "disconnect", "rating": None}
                more["turns"] = draw.choice((0, 1, 1))
            elif kind < 0.14:
                more = {"reason": "model failed: beta gave no reply within 120 s", "rating": None}
            elif kind < 0.2:
                more = {"violations": draw.choice(("under_min_length", "all_caps,unsafe:1"))}
            elif kind < 0.35:
                more = {"status": draw.choice(("approved", "approved", "rejected"))}
            agent = self.chat(
                worker=f"worker-{draw.randrange(max(3, conversations // 3))}",
                model=draw.choice(("alpha", "beta")),
                minutes=draw.uniform(2, 14),
                started=begin + 2 * 24 * 3600 * number / max(1, conversations) - 900,
                text=draw.choice(LINES),
                **{"rating": draw.randint(1, 5), "turns": 2, **more},
            )
            if draw.random() < 0.05:
                worker = agent.get_worker().worker_name
                bonus = Bonus(f"token-{number}", agent.db_id, worker, 100, "Thank you!")
                ledger = Ledger(self.data)
                ledger.begin(bonus)
                ledger.paid(bonus.token)


class MadeUpRun:
    """A run for the page to look at."""

    def __init__(self) -> None:
        self.accepting = True
        self.more = 0
        self.asked: list[tuple[str, int | None]] = []

    @property
    def state(self) -> LiveState:
        """Its counters; they move."""
        now = time.time()
        return LiveState(
            accepting=self.accepting,
            started=START,
            counts=[
                Count(name=name, done=done, in_flight=2, needed=100 + self.more)
                for name, done in (("alpha", 41), ("beta", 39))
            ],
            chatting=[
                Chatting(agent_id=str(n), worker=f"worker-{n}", model=m, since=now - 60 * n, turn=int(now / 10) % 3)
                for n, m in ((1, "alpha"), (2, "beta"), (3, "alpha"), (4, None))
            ],
            replies=[
                Replies(name="alpha", replies=160, failures=1, buckets=[(0.5, 80), (1.0, 150), (2.0, 159), (1e9, 160)]),
                Replies(name="beta", replies=150, failures=30, buckets=[(0.5, 20), (1.0, 60), (2.0, 140), (1e9, 150)]),
            ],
            onboarding=2,
            waiting=1,
            models_usd=1.25,
        )

    def ask(self, act: RunAct, more: int | None) -> str:
        """Do as it is told."""
        self.asked.append((act, more))
        self.accepting = act != "stop" if act != "extend" else self.accepting
        self.more += more or 0
        return ""


def main() -> None:
    """Serve a sample study."""
    parser = argparse.ArgumentParser(description="Serve a sample study.")
    parser.add_argument("--folder", type=Path, required=True, help="new, or of an earlier start")
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--port", type=int, default=9300)
    parser.add_argument("--live", action="store_true", help="with a run that is made up")
    parser.add_argument("--blind", action="store_true")
    args = parser.parse_args()
    from mephisto.utils.logger_core import set_mephisto_log_level

    set_mephisto_log_level(level="warning")
    info = SampleStudy.info
    if (args.folder / "study.json").exists():
        study = StudyInfo.model_validate_json((args.folder / "study.json").read_text())
    else:
        sample = SampleStudy(args.folder)
        sample.fill(args.conversations)
        study = info(sample, wanted={"alpha": 100, "beta": 100}, target=200, min_hourly_wage=12.0)
        (args.folder / "study.json").write_text(study.model_dump_json())
    study = study.model_copy(update={"blind": args.blind})
    listening = bind("--port", "127.0.0.1", args.port)
    passwords = {f"{role}-password": role for role in Role}
    print(f"{address_of(listening)}login?token=sample   (or a password: {', '.join(passwords)})", flush=True)
    watched = Watched(study, MadeUpRun() if args.live else None)
    serve([watched], Access(passwords, "sample"), listening, lambda server: None)


if __name__ == "__main__":
    main()
