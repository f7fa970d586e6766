"""The subcommands of manage_workers.py that list, invite, block and forget workers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from model_chat.analysis.measures import dialog_digest
from model_chat.crowd.adapters import adapter_of
from model_chat.crowd.money import written
from model_chat.crowd.panel_pay import PanelPay
from model_chat.crowd.platform import PlatformError
from model_chat.crowd.workers import Task, WorkerSummary, chosen_ids, summarise
from model_chat.errors import ConfigurationError
from model_chat.exports.identities import Identities, default_salt_file, read_salt
from model_chat.exports.selection import digests_of
from model_chat.launch.logs import without_controls
from model_chat.quality.blocks import (
    BlockReason,
    bind_to_platform,
    canonical_id,
    is_blocked,
    make_qualification,
    soft_block,
    unblock,
)
from model_chat.records.forget import forget_worker, names_of
from model_chat.records.llm_judgments import JUDGE_LOG_NAME
from model_chat.records.reading import ReadConversation
from model_chat.scripts._manage_output import Output


def list_workers(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Show everybody who came."""
    rows = summarise(task)
    currency = PanelPay.of(task.provider_type, task.last_run.args.get("provider") or {}).currency
    if args.json:
        out.say(json.dumps([row.as_dict() for row in rows], indent=1))
        return
    title = f"{len(rows)} workers of {task.name}"
    # No text of theirs is markup, and none moves the cursor.
    cells = [dict(zip(COLUMNS, map(without_controls, _cells(row, currency)), strict=True)) for row in rows]
    shown = [column for column in COLUMNS if column in ALWAYS or any(row[column] for row in cells)]
    console = out.console
    widths = _widths([[column, *(row[column] for row in cells)] for column in shown], console.width)
    if widths is not None:
        table = Table(title=Text(title), title_justify="left")
        for column, width in zip(shown, widths, strict=True):
            table.add_column(column, width=width, justify="right" if column in ("complete", "incomplete") else "left")
        for row in cells:
            table.add_row(*(Text(row[column]) for column in shown))
        console.print(table)
        return
    # Too narrow for a table without breaking words: a paragraph for each worker.
    console.print(Text(title), highlight=False)
    for row in cells:
        said = "; ".join(f"{column}: {row[column]}" for column in shown[1:] if row[column])
        console.print(Padding(Text(row[shown[0]]), (1, 0, 0, 0)), highlight=False, soft_wrap=True)
        console.print(Padding(Text(said), (0, 0, 0, 2)), highlight=False)


COLUMNS = ("worker", "complete", "incomplete", "units", "onboarding", "violations", "attention", "bonus", "access")
ALWAYS = frozenset({"worker", "complete", "incomplete", "units"})
"""Columns that are shown even where they are empty."""


def _widths(columns: Sequence[Sequence[str]], most: int) -> list[int] | None:
    """Return how wide the columns of a table are, so that no word is broken; None if the table would be too wide.

    Args:
        columns: of each, all its texts, the heading included.
        most: characters that a line has, for the table's lines and the space beside them, too.
    """
    left = most - 3 * len(columns) - 1
    widths = [max(cell_len(word) for text in texts for word in [*text.split(), ""]) for texts in columns]
    left -= sum(widths)
    if left < 0:
        return None
    for number, texts in enumerate(columns):
        more = min(left, max(map(cell_len, texts)) - widths[number])
        widths[number] += more
        left -= more
    return widths


def _cells(row: WorkerSummary, currency: str) -> tuple[str, ...]:
    """What the columns contain."""
    return (
        row.worker_id,
        str(row.complete),
        str(row.incomplete),
        _counts(row.statuses),
        row.onboarding,
        _counts(row.violations),
        f"{row.attention_failed} failed" if row.attention_failed else "",
        written(row.bonus_cents, currency) if row.bonus_cents else "",
        f"blocked: {row.blocked}" if row.blocked else "invited" if row.invited else "",
    )


def _counts(counted: Any) -> str:
    return ", ".join(f"{number} {name}" for name, number in counted.most_common())


def block_workers(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Soft-block workers, those who never came yet included."""
    name = _qualification(task, args, "block_qualification", out)
    access = _Access(task, args, blocked=True)
    for worker_id, worker in _workers(task, args, out, make=True):
        access.add(worker_id)
        if worker is not None and is_blocked(worker, name):
            out.say(f"{worker_id} is blocked already")
        elif out.dry_run or soft_block(worker, name, BlockReason.BY_HAND):
            out.done(f"{worker_id} blocked by '{name}'")
        else:
            out.failed(f"{worker_id} is blocked here, but the crowd platform did not take it")
    access.change(out)


def unblock_workers(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Take soft blocks back."""
    name = _qualification(task, args, "block_qualification", out)
    access = _Access(task, args, blocked=False)
    for worker_id, worker in _workers(task, args, out):
        access.add(worker_id)
        if not is_blocked(worker, name):
            out.say(f"{worker_id} is not blocked")
        elif out.dry_run or unblock(worker, name):
            out.done(f"{worker_id} unblocked")
        else:
            out.failed(f"{worker_id} is unblocked here, but the crowd platform did not take it")
    access.change(out)


def allow_workers(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Invite workers to a task for which allowed_worker_qualification is set."""
    name = _qualification(task, args, "allowed_worker_qualification", out)
    access = _Access(task, args, invited=True)
    for worker_id, worker in _workers(task, args, out, make=True):
        access.add(worker_id)
        if worker is not None and worker.get_granted_qualification(name) is not None:
            out.say(f"{worker_id} is invited already")
        elif out.dry_run or worker.grant_qualification(name, 1):
            out.done(f"{worker_id} invited by '{name}'")
        else:
            out.failed(f"{worker_id} is invited here, but the crowd platform did not take it")
    access.change(out)


class _Access:
    """Collects workers whom the platform itself is to keep out or let in, so that it is asked once."""

    def __init__(
        self, task: Task, args: argparse.Namespace, blocked: bool | None = None, invited: bool | None = None
    ) -> None:
        self._adapter = adapter_of(task, args.api_token_env)
        self._canonical = task.canonical
        self._blocked, self._invited = blocked, invited
        self._ids: list[str] = []

    def add(self, worker_id: str) -> None:
        """Take a worker in, blocked already or not: an earlier command may have failed half-way."""
        self._ids.append(self._canonical(worker_id))

    def change(self, out: Output) -> None:
        """Ask the platform, and say what came of it."""
        if not self._ids or out.dry_run:
            return
        try:
            remark = self._adapter.set_access(self._ids, self._blocked, self._invited)
        except (PlatformError, ConfigurationError) as error:
            out.failed(f"{', '.join(self._ids)}: done here, but not on {self._adapter.name}: {str(error).rstrip('.')}.")
            return
        if remark:
            out.say(f"{', '.join(self._ids)}: {remark}")


def reset_onboarding(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Forget how onboarding went, so that workers can try again in the next run."""
    name = _qualification(task, args, "onboarding_qualification", out)
    for worker_id, worker in _workers(task, args, out):
        # Mephisto's own clear_onboarding leaves the failed qualification in its database.
        had = [part for part in (name, f"{name}-failed") if worker.get_granted_qualification(part) is not None]
        if not had:
            out.say(f"{worker_id} has no onboarding result")
        elif out.dry_run or len(had) == sum(worker.revoke_qualification(part) for part in had):  # each is tried
            out.done(f"{worker_id}: onboarding reset")
        else:
            out.failed(f"{worker_id}: onboarding is reset here, but the crowd platform did not take it")


def _qualification(task: Task, args: argparse.Namespace, flag: str, out: Output) -> str:
    """Return the name of the qualification, known to Mephisto and tied to the requester's own on the platform.

    Raises:
        ConfigurationError: neither the command line nor the task's last run names one.
    """
    name = args.qualification or task.qualification(flag)
    if name is None:
        raise ConfigurationError(
            f"mephisto.blueprint.{flag} is not set in the last run of '{task.name}'; give --qualification."
        )
    if not out.dry_run:
        make_qualification(task.db, name)
        bind_to_platform(task.requester, [{"qualification_name": name}])
    return str(name)


def _workers(task: Task, args: argparse.Namespace, out: Output, make: bool = False) -> Iterable[tuple[str, Any]]:
    """Go through the workers that the command line names.

    Args:
        make: make those known whom Mephisto has never seen (in a dry run they come as None); else they are reported.
    """
    from mephisto.operations.registry import get_crowd_provider_from_type

    for worker_id in chosen_ids(args.workers, args.file):
        worker = task.find_worker(worker_id)
        if worker is None and not make:
            out.failed(f"{worker_id} is not known")
            continue
        if worker is None:
            out.say(f"{worker_id} has never taken part here; check the id")
            if not out.dry_run:
                worker = get_crowd_provider_from_type(task.provider_type).WorkerClass.new(
                    task.db, canonical_id(task.provider_type, worker_id)
                )
        yield worker_id, worker


def forget_workers(task: Task, args: argparse.Namespace, out: Output) -> None:
    """Take workers' ids out of all records (docs/data-protection.md).

    Raises:
        ConfigurationError: a place of ``--also`` or ``--salt-file`` does not exist, or a run is active.
    """
    blueprint = task.last_run.args.get("blueprint") or {}
    folders = {
        flag: [Path(given).expanduser()] if given else [Path(str(blueprint[flag]))] if blueprint.get(flag) else []
        for flag, given in (("chat_data_folder", args.chat_data_folder), ("stack_folder", args.stack_folder))
    }
    also = [Path(given).expanduser() for given in args.also]
    salts = [Path(given).expanduser() for given in args.salt_file]
    missing = [
        (f"--also: '{path}' does not exist; give a folder, or a file of finished conversations.", path) for path in also
    ] + [(f"--salt-file: '{path}' does not exist; give the one that an export was made with.", path) for path in salts]
    ConfigurationError.raise_if(fault for fault, path in missing if not path.exists())
    salts += [path for path in [default_salt_file()] if path.exists()]
    exports = [Identities(read_salt(path), ()) for path in salts]

    def ids_of(conversation: ReadConversation) -> set[str]:
        digests = digests_of(conversation)
        pseudonymous = {one.conversation_id(digest) for one in exports for digest in digests}
        return {dialog_digest(conversation).hex(), *(digest.hex() for digest in digests)} | pseudonymous

    for worker_id in chosen_ids(args.workers, args.file):
        gone = forget_worker(
            worker_id,
            task.file,
            folders["chat_data_folder"],
            folders["stack_folder"],
            args.delete,
            args.dry_run,
            also,
            {one.pseudonym(name) for one in exports for name in names_of(worker_id)},
            ids_of,
        )
        what = f"{gone.files} files, {gone.states} states of Mephisto's, {gone.stacks} stack files, {gone.rows} rows"
        for place in gone.copies:
            out.done(f"delete what others made of a conversation of {worker_id}: {place}")
        if gone.files + gone.states + gone.stacks + gone.rows > 0:
            out.done(f"{'delete' if args.delete else 'forget'} {worker_id}: {what}; now {gone.pseudonym}")
        elif not gone.unread and not gone.copies and not gone.remarks:
            out.failed(f"{worker_id}: nothing is kept under this id")
        for path in gone.unread:
            out.failed(f"{worker_id}: '{path}' {_why_unread(path)}")
        for remark in gone.remarks:
            out.failed(f"{worker_id}: {remark}")


def _why_unread(path: str) -> str:
    if Path(path).name == JUDGE_LOG_NAME:
        return (
            "holds answers without a judgment, which may be about their conversations; run judge.py over all conversations "
            "again before, or delete the file yourself"
        )
    return "names them or their conversation and is no JSON; repair or delete it yourself"


def with_json(parser: argparse.ArgumentParser) -> None:
    """Declare what ``list`` takes."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def with_qualification(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommands about one qualification take."""
    parser.add_argument("--qualification", help="name of the qualification (default: that of the task's last run)")


def with_forgetting(parser: argparse.ArgumentParser) -> None:
    """Declare what ``forget`` takes."""
    parser.add_argument("--chat-data-folder", help="where conversations were saved (default: as in the last run)")
    parser.add_argument("--stack-folder", help="of an image chat (default: as in the last run)")
    parser.add_argument(
        "--delete", action="store_true", help="delete what they wrote, too, also in other people's annotations of it"
    )
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="PATH",
        help="a further place, may be given several times: a folder of conversations or annotations, an output of "
        "scripts/judge.py, Mephisto's data folder of a study of annotation, a file of finished conversations, or a folder "
        "of such files",
    )
    parser.add_argument(
        "--salt-file",
        action="append",
        default=[],
        metavar="FILE",
        help="the salt of deidentified exports, may be given several times: their pseudonyms are recognised by it (that of "
        "the user's configuration folder always counts)",
    )
