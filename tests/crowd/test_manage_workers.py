"""scripts/manage_workers.py, on a task whose workers have chatted for real (mock provider), and its ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.configuration.exit_codes import ExitCode
from model_chat.crowd.ledger import Bonus, Ledger, token_of
from model_chat.crowd.money import fee_cents, to_minor, total_cents, written
from model_chat.crowd.platform import PlatformError, pay_bonus
from model_chat.quality.blocks import BlockReason, block_reasons, find_worker, is_blocked, soft_block
from model_chat.records.mephisto_database import list_agents
from model_chat.records.schema import Completion, Conversation, TaskDescription, Utterance
from model_chat.scripts.manage_workers import SUBCOMMANDS, main
from model_chat.tests.mephisto_run import Run
from model_chat.tests.records.original_files import early_state, image_chat, january_2021

START = 1_760_000_000.0


class Study:
    """A task in a database of its own; ``command`` runs the script on it and returns exit code, output and errors."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.run = Run(folder)
        self.db = self.run.db
        self._capsys = capsys

    def chat(self, name: str, minutes: float = 6.0, violations: str | None = "", complete: bool = True) -> Any:
        """Let a worker have had a conversation and handed it in; return the agent."""
        from mephisto.abstractions.providers.mock.mock_agent import MockAgent
        from mephisto.data_model.worker import Worker

        worker = find_worker(self.db, "mock", name)
        if worker is None:
            worker = Worker.get(self.db, self.db.new_worker(f"{name}_sandbox", "mock"))
        agent = MockAgent.new(self.db, worker, self.run.unit())
        record = Conversation(
            dialog=[
                Utterance(agent_idx=0, text="Hi!", id="Speaker 1", fake_start=True, timestamp=START),
                Utterance(agent_idx=1, text="Hello.", id="Speaker 2", timestamp=START + minutes * 60),
            ],
            workers=[name],
            acceptability_violations=[violations],
            hit_ids=["1"],
            assignment_ids=["1"],
            task_description=TaskDescription(model_nickname="m"),
            status=Completion.COMPLETE if complete else Completion.INCOMPLETE,
        )
        agent.state.record_world_data({"custom_data": record.to_dict()})
        agent.update_status("completed")
        return agent

    def command(self, *arguments: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = main([arguments[0], "--task-name", "study_local", "--database-path", str(self.folder), *arguments[1:]])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def status(self, agent: Any) -> str:
        return str(self.db.get_agent(agent.db_id)["status"])


@pytest.fixture
def study(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("COLUMNS", "200")
    return Study(tmp_path, capsys)


# --- looking ---


def test_the_list_shows_everybody_with_their_conversations_and_results(study: Study) -> None:
    study.chat("ann", violations="under_min_length,unsafe:1,unsafe:3")
    study.chat("ann")
    study.chat("bob", violations=None, complete=False)
    soft_block(find_worker(study.db, "mock", "ann"), "blocked", BlockReason.ACCEPTABILITY)  # type: ignore[arg-type]  # found
    code, said, _ = study.command("list", "--json")
    assert code == 0
    ann, bob = json.loads(said)
    assert (ann["worker_id"], ann["complete"], ann["incomplete"]) == ("ann", 2, 0)
    assert ann["violations"] == {"under_min_length": 1, "unsafe": 2}
    assert ann["statuses"] == {"completed": 2}
    assert ann["blocked"] == "acceptability"
    assert (bob["worker_id"], bob["complete"], bob["incomplete"], bob["blocked"]) == ("bob", 0, 1, "")
    _, table, _ = study.command("list")
    assert "2 workers of study_local" in table
    assert "blocked: acceptability" in table


@pytest.mark.parametrize("name", ["[/x]", "[red]ann", "[link=http://x]", "a\\\\", ":smile:", "ann\x1b[31m"])
def test_a_worker_may_have_any_name(study: Study, name: str) -> None:
    study.chat(name)
    for command in ("list", "block", "unblock", "approve"):
        code, said, _ = study.command(command, *([name] if command != "list" else []))
        assert code == 0
        assert name.replace("\x1b", "\\x1b") in said
        assert "\x1b" not in said


def test_workers_are_found_in_whatever_spelling(study: Study) -> None:
    agent = study.chat("ann")
    assert study.command("block", " an\u200bn")[0] == 0
    assert is_blocked(find_worker(study.db, "mock", "ann"), "blocked")  # type: ignore[arg-type]  # found
    assert study.command("approve", "\uff41nn")[0] == 0
    assert study.status(agent) == "approved"
    assert study.command("allow", "b\u2060ob", "--qualification", "invited")[0] == 0
    assert [worker.worker_name for worker in study.db.find_workers()] == ["ann_sandbox", "bob_sandbox"]


@pytest.mark.parametrize("columns", [40, 80, 100, 130, 200])
def test_no_word_of_the_list_is_broken_however_narrow_the_terminal(
    study: Study, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    worker = "A1B2C3D4E5F6G7H8I9"
    study.chat(worker, violations="under_min_length,unsafe:1")
    study.chat("[/bold]", violations=None, complete=False)
    soft_block(find_worker(study.db, "mock", worker), "blocked", BlockReason.ACCEPTABILITY)  # type: ignore[arg-type]  # found
    code, said, _ = study.command("list")
    assert code == 0
    assert max(map(len, said.splitlines())) <= columns
    for word in (worker, "[/bold]", "completed", "acceptability", "under_min_length", "incomplete"):
        assert word in said
    assert "bonus" not in said, "nobody has had one"


def test_who_only_came_to_onboarding_is_listed_with_its_result(study: Study) -> None:
    agent = study.run.onboarding_agent()
    study.db.make_qualification("passed-onboarding")
    agent.get_worker().grant_qualification("passed-onboarding", 0)
    _, said, _ = study.command("list", "--json")
    (row,) = json.loads(said)
    assert (row["complete"], row["onboarding"]) == (0, "failed")


@pytest.mark.parametrize("make", [january_2021, image_chat])
def test_the_list_counts_conversations_of_the_original(study: Study, make: Callable[..., dict[str, Any]]) -> None:
    study.chat("ann")
    (source,) = list_agents(study.folder / "database.db", "study_local")
    Path(source.path).write_text(json.dumps(early_state(make("ann"))), encoding="utf-8")
    (ann,) = json.loads(study.command("list", "--json")[1])
    assert (ann["complete"], ann["incomplete"]) == (1, 0)


# --- who may take part ---


def test_workers_are_blocked_by_id_or_file_and_unblocked_again(study: Study, tmp_path: Path) -> None:
    study.chat("ann")
    file = tmp_path / "ids.txt"
    file.write_text("# from the pilot\nbob  # never came\n\nann\n", encoding="utf-8")
    code, said, _ = study.command("block", "--file", str(file))
    assert code == 0
    assert "bob has never taken part here; check the id" in said
    for name in ("ann", "bob"):
        worker = find_worker(study.db, "mock", name)
        assert worker is not None
        assert is_blocked(worker, "blocked")
        assert block_reasons(worker, "blocked") == [BlockReason.BY_HAND]
    assert "ann is blocked already" in study.command("block", "ann")[1]
    assert "ann unblocked" in study.command("unblock", "ann")[1]
    assert not is_blocked(find_worker(study.db, "mock", "ann"), "blocked")  # type: ignore[arg-type]  # found
    assert "ann is not blocked" in study.command("unblock", "ann")[1]


def test_a_file_of_ids_is_read_as_every_block_list_is(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_bytes('\ufeffann\r\n"Bob, the builder"\r\n'.encode())
    assert study.command("block", "--file", str(file))[0] == 0
    assert find_worker(study.db, "mock", "ann") is not None
    assert find_worker(study.db, "mock", "Bob, the builder") is not None
    file.write_text("cid\ndan eve\n", encoding="utf-8")
    code, _, errors = study.command("block", "--file", str(file))
    assert code != 0
    assert errors == f"✗ --file: line 2 of '{file}' is 'dan eve'; write one worker id a line.\n"
    assert find_worker(study.db, "mock", "cid") is None  # nobody is blocked by half a list


def test_an_unknown_worker_can_not_be_unblocked_and_that_is_a_failure(study: Study) -> None:
    code, said, _ = study.command("unblock", "nobody")
    assert (code, said) == (1, "✗ nobody is not known\n")


@pytest.mark.parametrize("command", ["block", "approve", "reject", "bonus", "wage"])
def test_a_dry_run_changes_nothing(study: Study, command: str) -> None:
    agent = study.chat("ann")
    more = {
        "reject": ["--reason", "x"],
        "bonus": ["--amount", "1", "--reason", "x"],
        "wage": ["--hourly", "60", "--cap", "5"],
    }
    before = sorted(study.db.find_qualifications(), key=str)
    code, said, _ = study.command(command, "ann", "--dry-run", *more.get(command, []))
    assert code == 0
    assert "would: " in said or "total $" in said
    assert study.status(agent) == "completed"
    assert Ledger(study.folder).bonuses() == []
    assert len(study.db.find_qualifications()) == len(before)


def test_onboarding_is_reset_whole(study: Study) -> None:
    worker = study.run.onboarding_agent().get_worker()
    for name in ("passed-onboarding", "passed-onboarding-failed"):
        study.db.make_qualification(name)
        worker.grant_qualification(name, 0)
    code, said, _ = study.command("reset-onboarding", worker.worker_name)
    assert (code, said) == (0, f"{worker.worker_name}: onboarding reset\n")
    assert worker.get_granted_qualification("passed-onboarding") is None
    assert worker.get_granted_qualification("passed-onboarding-failed") is None


def test_inviting_needs_the_name_of_the_qualification(study: Study) -> None:
    study.chat("ann")
    code, _, errors = study.command("allow", "ann")
    assert code == 2
    assert "mephisto.blueprint.allowed_worker_qualification is not set in the last run" in errors
    assert study.command("allow", "ann", "--qualification", "invited")[0] == 0
    assert find_worker(study.db, "mock", "ann").is_qualified("invited")  # type: ignore[union-attr]  # found


# --- pay ---


def test_units_are_approved_and_rejected_by_worker_or_all(study: Study) -> None:
    ann, bob = study.chat("ann"), study.chat("bob")
    assert study.command("approve", "ann")[:2] == (0, f"ann, unit {ann.unit_id} approved\n")
    assert (study.status(ann), study.status(bob)) == ("approved", "completed")
    assert "rejected: copied" in study.command("reject", "bob", "--reason", "copied")[1]
    assert study.status(bob) == "rejected"
    assert study.command("reject", "ann", "--reason", "late")[0] == 1  # approved: no unit to reject
    assert study.command("approve", "--all", "--rejected")[0] == 0
    assert study.status(bob) == "approved"


def test_nobody_is_paid_by_mistake_for_all(study: Study) -> None:
    study.chat("ann")
    for arguments in (["approve"], ["approve", "--all", "ann"]):
        code, _, errors = study.command(*arguments)
        assert code == 2
        assert "Name workers (or --file), or give --all" in errors


def test_a_bonus_needs_the_total_confirmed_and_is_paid_once(study: Study) -> None:
    study.chat("ann")
    study.chat("bob")
    ask = ("bonus", "--all", "--amount", "0.75", "--reason", "Thank you.")
    code, said, errors = study.command(*ask)
    assert code == 2
    assert "2 bonuses, total $1.50" in said
    assert "repeat the command with --confirm 1.50" in errors
    assert study.command(*ask, "--confirm", "15")[0] == 2
    assert Ledger(study.folder).bonuses() == []
    assert study.command(*ask, "--confirm", "1.50")[0] == 0
    code, said, _ = study.command(*ask, "--confirm", "1.50")
    assert code == 0
    assert said.count("has had this bonus") == 2
    assert [bonus.cents for bonus in Ledger(study.folder).bonuses()] == [75, 75]


def test_a_bonus_that_the_platform_refuses_is_said_and_keeps_nobody_elses_back(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = study.chat("ann")
    study.chat("bob")

    def pay(ledger: Ledger, agent: Any, bonus: Bonus) -> bool:
        if agent.db_id == refused.db_id:
            raise PlatformError("no money left")
        return pay_bonus(ledger, agent, bonus)

    ask = ("bonus", "--all", "--amount", "0.75", "--reason", "Thank you.", "--confirm")
    with monkeypatch.context() as refusing:
        refusing.setattr("model_chat.crowd.adapters.pay_bonus", pay)
        code, said, _ = study.command(*ask, "1.50")
    assert (code, "✗ no money left." in said) == (ExitCode.FAILED, True)
    assert [(bonus.worker_id, bonus.state) for bonus in Ledger(study.folder).bonuses()] == [("bob", "paid")]
    assert study.command(*ask, "0.75")[0] == 0
    assert sorted(bonus.worker_id for bonus in Ledger(study.folder).bonuses()) == ["ann", "bob"]


def test_the_wage_is_made_up_to_the_target_and_the_cap(study: Study) -> None:
    # $0.50 a unit; at $12 an hour 6 minutes are $1.20, 60 minutes $12.
    quick, slow = study.chat("quick", minutes=6), study.chat("slow", minutes=60)
    study.chat("fast", minutes=1)
    study.chat("left", minutes=60, complete=False)
    ask = ("wage", "--all", "--hourly", "12", "--cap", "3")
    _, said, _ = study.command(*ask)
    assert f"quick, unit {quick.unit_id}: 6.0 min, paid $0.50, missing $0.70" in said
    assert f"slow, unit {slow.unit_id}: 60.0 min, paid $0.50, missing $3.00" in said
    assert "2 bonuses, total $3.70" in said
    assert study.command(*ask, "--confirm", "3.70")[0] == 0
    assert "0 bonuses, total $0.00" in study.command(*ask)[1]
    # A higher target later pays the difference alone.
    assert "quick, unit" in (more := study.command("wage", "--all", "--hourly", "15", "--cap", "3")[1])
    assert "paid $1.20, missing $0.30" in more
    assert "1 bonuses, total $0.30" in more


def test_a_payment_that_was_cut_off_is_finished_first(study: Study) -> None:
    agent = study.chat("ann", minutes=6)
    Ledger(study.folder).begin(Bonus("token", agent.db_id, "ann", 70, "Thanks."))
    ask = ("wage", "--all", "--hourly", "12", "--cap", "3")
    assert "1 bonuses, 1 of them begun before, total $0.70" in study.command(*ask)[1]
    assert study.command(*ask, "--confirm", "0.70")[0] == 0
    assert [(bonus.cents, bonus.state) for bonus in Ledger(study.folder).bonuses()] == [(70, "paid")]


def test_two_processes_do_not_pay_at_the_same_time(study: Study, tmp_path: Path) -> None:
    study.chat("ann")
    with Ledger(tmp_path).paying():
        code, _, errors = study.command("bonus", "ann", "--amount", "1", "--reason", "x", "--confirm", "1")
    assert code == 2
    assert "another process is paying" in errors
    assert Ledger(tmp_path).bonuses() == []


def test_the_same_bonus_is_known_by_worker_and_reason(study: Study) -> None:
    """Another amount for the same reason is taken for a mistake and not paid on top; another reason is another bonus."""
    study.chat("ann")
    first = ("bonus", "ann", "--amount", "1", "--reason", "Thanks.", "--confirm", "1")
    assert study.command(*first)[0] == 0
    _, said, _ = study.command("bonus", "ann", "--amount", "2", "--reason", "Thanks.", "--confirm", "2")
    assert "has had this bonus" in said
    assert study.command("bonus", "ann", "--amount", "2", "--reason", "More thanks.", "--confirm", "2")[0] == 0
    assert [bonus.cents for bonus in Ledger(study.folder).bonuses()] == [100, 200]


def test_the_ledger_survives_its_process(tmp_path: Path) -> None:
    bonus = Bonus("t", "1", "ann", 5, "x")
    assert Ledger(tmp_path).begin(bonus) == bonus
    assert Ledger(tmp_path).begin(Bonus("t", "1", "ann", 999, "other")) == bonus  # what was written first counts


def test_the_ledger_keeps_apart_whom_it_has_paid(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number, agent in enumerate(("1", "2", "1")):
        ledger.begin(Bonus(f"t{number}", agent, "ann", 10 + number, "x"))
    ledger.paid("t0")
    assert [(bonus.token, bonus.state) for bonus in ledger.bonuses("1")] == [("t0", "paid"), ("t2", "sending")]
    assert [bonus.token for bonus in ledger.bonuses()] == ["t0", "t1", "t2"]
    assert (ledger.cents_paid("1"), ledger.cents_paid("2"), ledger.cents_paid("3")) == (22, 11, 0)
    ledger.withdraw("t0")  # paid: nothing takes it back
    ledger.withdraw("t2")
    assert [bonus.token for bonus in ledger.bonuses()] == ["t0", "t1"]
    assert ledger.begin(Bonus("t0", "9", "bob", 99, "y")).cents == 10


def test_no_bonus_is_nothing_or_less(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for cents in (0, -1):
        with pytest.raises(StopIteration):
            ledger.begin(Bonus("t", "1", "ann", cents, "x"))
        assert ledger.bonuses() == []


def test_tokens_are_the_same_for_the_same_parts_alone() -> None:
    assert token_of("fixed", "task", 1) == token_of("fixed", "task", "1")
    assert len(token_of("x")) == 64
    assert len({token_of("a", "b"), token_of("ab"), token_of("b", "a"), token_of("a", "b", "")}) == 4


# --- messages ---


def test_where_there_is_no_platform_nobody_can_be_sent_a_message(study: Study) -> None:
    study.chat("ann")
    code, said, errors = study.command("message", "ann", "--text", "Hi")
    assert (code, said) == (2, "")
    assert errors == "✗ message: the provider mock reaches nobody; there is no platform that could send a message.\n"


def test_a_rejection_has_a_category_on_prolific_alone(study: Study) -> None:
    agent = study.chat("ann")
    code, _, errors = study.command("reject", "ann", "--reason", "copied", "--category", "OTHER")
    assert code == 2
    assert errors == "✗ --category: the provider mock knows no categories; leave it out.\n"
    assert study.status(agent) == "completed"


# --- the command line ---


def test_an_unknown_task_is_said_with_those_that_there_are(study: Study) -> None:
    code = main(["list", "--task-name", "study", "--database-path", str(study.folder)])
    assert code == 2
    assert "it knows study_local" in study._capsys.readouterr().err


@pytest.mark.parametrize("command", ["block", "unblock", "allow", "reset-onboarding"])
def test_workers_must_be_named(study: Study, command: str) -> None:
    code, _, errors = study.command(command)
    assert code == 2
    assert "Name workers, or give --file" in errors


def test_every_subcommand_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "paying-workers.md").read_text(encoding="utf-8")
    assert [name for name in SUBCOMMANDS if f"`{name}`" not in page] == []


# --- amounts ---


@pytest.mark.parametrize(
    ("amount", "cents"), [("1", 100), (0.5, 50), ("0.01", 1), (0.1, 10), ("12.340", 1234), ("0", 0), (0.07, 7)]
)
def test_amounts_are_read_to_the_cent(amount: Any, cents: int) -> None:
    assert to_minor(amount) == cents


@pytest.mark.parametrize("amount", ["", "x", "-1", "0.005", "nan", "inf", "1,50"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="no amount of dollars"):
        to_minor(amount)


def test_the_fee_is_a_fifth_and_at_least_a_cent() -> None:
    assert [fee_cents(cents) for cents in (1, 3, 50, 333)] == [1, 1, 10, 67]
    assert total_cents(200, 50) == 200 * 60
    assert written(total_cents(200, 50)) == "$120.00"


def test_amounts_on_the_command_line_are_checked(study: Study) -> None:
    study.chat("ann")
    code, _, errors = study.command("bonus", "ann", "--amount", "0.005", "--reason", "x")
    assert code == 2
    assert "--amount: '0.005' is no amount of dollars and whole cents; write it like 1.50." in errors
