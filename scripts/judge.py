"""Let a model behind an endpoint fill boxes, items and ratings of collected conversations (docs/judges.md).

    python scripts/judge.py --results-folders my_study/conversations --model-opt-path judges.yaml \\
        --model judge --output judged

Prints what it will cost, asks, and writes judgments.jsonl, which `compile_results.py --judgments` sets beside what people
said. Stopped and started again, it asks nothing twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from model_chat.agents.endpoint_settings import EndpointSettings
from model_chat.analysis.settings import add_source_flags
from model_chat.configuration.annotations import load_annotations
from model_chat.configuration.exit_codes import ExitCode, exit_with
from model_chat.configuration.files import expand
from model_chat.configuration.lists import split_list
from model_chat.configuration.study_flow import load_study_flow
from model_chat.errors import ConfigurationError
from model_chat.records.llm_judgments import (
    CONVERSATION,
    JUDGE_LOG_NAME,
    JUDGMENTS_NAME,
    REPLY,
    Judge,
    JudgmentUsage,
    LlmJudgment,
)
from model_chat.records.locks import LockedError, hold
from model_chat.records.mephisto_database import check_statuses
from model_chat.records.writing import sync_folder, whole_file
from model_chat.scripts._judge_asking import Asker, Prompt, ask_all
from model_chat.scripts._judge_input import (
    CONFIG_FLAG,
    FINAL_RATING,
    FLOW_FLAG,
    ITEMS_FLAG,
    Found,
    Wanted,
    find_prompts,
    list_sources,
    prompts_of,
)
from model_chat.scripts._judge_money import JudgeLog, JudgeStoppedError, Prices, answer_limit
from model_chat.scripts._judge_prompt import estimated_answer_tokens, estimated_tokens
from model_chat.serving.catalogue import models_in_opt_file, opt_faults, spend_faults
from model_chat.serving.spend import dollars

OPT_FLAG = "--model-opt-path"
_Result = TypeVar("_Result")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add_source_flags(parser)
    parser.add_argument(
        CONFIG_FLAG,
        metavar="FILE",
        help="the boxes (default: those that the records hold); conversations that nobody annotated are then judged, too",
    )
    parser.add_argument(
        FLOW_FLAG, metavar="FILE", help="the items of a study flow (default: those that the records hold)"
    )
    parser.add_argument(
        ITEMS_FLAG,
        metavar="A,B",
        help=f"items to ask, of the chat or of pages after it; {FINAL_RATING} names the final ratings, and none asks for "
        "boxes alone (default: all)",
    )
    judge = parser.add_argument_group("the judge")
    judge.add_argument(
        OPT_FLAG, metavar="FILE", required=True, help="YAML file with the settings of models (docs/models.md)"
    )
    judge.add_argument("--model", metavar="NAME", required=True, help="the judge's nickname in that file")
    judge.add_argument(
        "--max-spend-usd",
        type=float,
        metavar="USD",
        help="ask nothing when the estimate is above it, and send no request that may pass it; earlier runs into the same "
        "--output count",
    )
    judge.add_argument("--estimate", action="store_true", help="print what it would cost, and ask nothing")
    judge.add_argument(
        "--retry-missing",
        action="store_true",
        help="ask again where an earlier run got no usable answer",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        required=True,
        help=f"folder for {JUDGMENTS_NAME} and {JUDGE_LOG_NAME}; made when missing; one for each judge",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 when the judge has been asked about everything."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = make_parser().parse_args(arguments)
    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    try:
        return _judge(options, console)
    except ConfigurationError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return ExitCode.CONFIGURATION
    except OSError as error:
        print(f"--output: '{options.output}' can't be written ({error.strerror or error}).", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        print("Stopped. Every answer so far is saved; the same command goes on from there.", file=sys.stderr)
        return ExitCode.INTERRUPTED


def _judge(options: argparse.Namespace, console: Console) -> int:
    settings, wanted, folders, statuses = _checked(options)
    output = expand(options.output)
    sources, refused = list_sources(folders, options.task_name, options.database_path, statuses, output)
    found = find_prompts(sources, wanted, settings)
    if refused:
        found.left_out["mephisto_status"] += refused
    console.print(f"{found.counts()}{_in_brackets(found.left_out, 'left out: ')}.")
    if found.items_left_out:
        console.print(
            f"Not asked, for they depend on answers that the judge does not give: {', '.join(sorted(found.items_left_out))}."
        )
    if options.estimate and not output.is_dir():
        _check_cost(options, console, found, settings, None)
        return ExitCode.DONE
    output.mkdir(parents=True, exist_ok=True)
    try:
        with hold(output, alone=True):
            return _ask(options, console, found, settings, output)
    except LockedError:
        raise ConfigurationError(
            f"--output: another judge.py is writing into '{options.output}'; wait for it, or give another folder."
        ) from None


def _ask(
    options: argparse.Namespace, console: Console, found: Found, settings: EndpointSettings, output: Path
) -> ExitCode:
    log = JudgeLog(output / JUDGE_LOG_NAME, again=options.retry_missing)
    try:
        to_ask = _check_cost(options, console, found, settings, log)
        if options.estimate:
            return ExitCode.DONE
        stopped = None
        try:
            with _progress(to_ask) as done:
                ask_all(Asker(settings, log, options.max_spend_usd), log, _prompts(found, settings, log), done)
        except JudgeStoppedError as error:
            stopped = str(error).rstrip(".")
        judgments = [*_judgments(found, log, options.model, settings)]
        with whole_file(output / JUDGMENTS_NAME) as file:
            for judgment in judgments:
                file.write(judgment.line())
        sync_folder(output)
        return _report(console, found, judgments, log, settings, output, stopped)
    finally:
        log.close()


def _checked(
    options: argparse.Namespace,
) -> tuple[EndpointSettings, Wanted, list[str], list[str]]:
    """Check the flags.

    Returns:
        the judge's settings, what it is to be asked, the results folders, the statuses.

    Raises:
        ConfigurationError: a sentence for every fault.
    """
    faults: list[str] = []

    def tried(read: Callable[[], _Result], otherwise: _Result) -> _Result:
        try:
            return read()
        except ConfigurationError as error:
            faults.extend(error.faults)
            return otherwise

    folders: list[str] = tried(lambda: split_list("--results-folders", options.results_folders), [])
    if not folders and not options.task_name:
        faults.append("Nothing to judge: give --results-folders, --task-name, or both.")
    if options.database_path and not options.task_name:
        faults.append(
            f"--database-path is '{options.database_path}' but no --task-name says which task to read from it."
        )
    statuses: list[str] = tried(lambda: split_list("--mephisto-statuses", options.mephisto_statuses), [])
    tried(lambda: check_statuses(statuses), None)
    wanted = Wanted()
    if options.annotations_config_path is not None:
        boxes = tried(lambda: load_annotations(CONFIG_FLAG, options.annotations_config_path)[0], None)
        wanted = dataclasses.replace(wanted, boxes=boxes)
    if options.study_flow_path is not None:
        flow = tried(lambda: load_study_flow(FLOW_FLAG, options.study_flow_path), None)
        wanted = dataclasses.replace(wanted, flow=flow)
    if options.items is not None:
        names: list[str] = tried(lambda: split_list(ITEMS_FLAG, options.items), [])
        wanted = dataclasses.replace(wanted, items=frozenset(names) - {"none"})
    output = expand(options.output)
    if output.exists() and not output.is_dir():
        faults.append(f"--output: '{options.output}' is a file; give a folder.")
    given: dict[str, object] = tried(lambda: _settings_given(options), {})
    ConfigurationError.raise_if(faults)
    return EndpointSettings.model_validate(given), wanted, [str(expand(folder)) for folder in folders], statuses


def _settings_given(options: argparse.Namespace) -> dict[str, object]:
    """The judge's settings, checked.

    Raises:
        ConfigurationError: there is no such model, it is behind no endpoint, or its settings are wrong.
    """
    sources = models_in_opt_file(OPT_FLAG, options.model_opt_path)
    source = sources.get(options.model)
    if source is None or source.endpoint is None:
        endpoints = [name for name, other in sources.items() if other.endpoint is not None]
        known = f"give one of: {', '.join(endpoints)}" if endpoints else "add its settings there (docs/models.md)"
        raise ConfigurationError(
            f"--model: '{options.model}' is no model behind an endpoint in '{options.model_opt_path}'; {known}."
        )
    ConfigurationError.raise_if(
        [
            *opt_faults(OPT_FLAG, source),
            *spend_faults("--max-spend-usd", options.max_spend_usd, {options.model: source}),
        ]
    )
    given = {key: value for key, value in source.endpoint.items() if value is not None}
    if options.max_spend_usd is not None and not answer_limit(EndpointSettings.model_validate(given)):
        raise ConfigurationError(
            f"--max-spend-usd is {options.max_spend_usd:g}, but nothing limits how long an answer of '{options.model}' may "
            f"be; set max_tokens in '{options.model_opt_path}'."
        )
    return given


def _check_cost(
    options: argparse.Namespace, console: Console, found: Found, settings: EndpointSettings, log: JudgeLog | None
) -> int:
    """Print what will be asked and what it is likely to cost; return how many prompts there are to ask.

    Raises:
        ConfigurationError: it is likely to cost more than `--max-spend-usd`.
    """
    prompts, tokens, answers = 0, 0, 0
    for prompt in _prompts(found, settings, log):
        prompts += 1
        tokens += estimated_tokens(prompt.messages)
        answers += estimated_answer_tokens(prompt.questions)
    cost = Prices.of(settings).cost(tokens, answers)
    spent = log.most_usd if log is not None else 0.0
    console.print(
        f"To ask: {prompts:,} prompts, about {tokens:,} tokens in and {answers:,} out, "
        + ("no prices are set" if cost is None else f"about {dollars(cost)}")
        + (f"; {dollars(spent)} is spent already." if spent else ".")
    )
    limit = options.max_spend_usd
    if cost is not None and limit is not None and cost + spent > limit:
        raise ConfigurationError(
            f"--max-spend-usd is {limit:g}, and the judge is likely to cost {dollars(cost + spent)} in all; raise it, or "
            "judge fewer conversations."
        )
    return prompts


def _prompts(found: Found, settings: EndpointSettings, log: JudgeLog | None) -> Iterator[Prompt]:
    """Every prompt that has no answer, once."""
    seen: set[str] = set()
    for judged in found.conversations:
        open_keys = {asked.key for asked in judged.asked if log is None or not log.is_answered(asked.key)} - seen
        if open_keys:
            for prompt in prompts_of(judged, settings):
                if prompt.key in open_keys and prompt.key not in seen:
                    seen.add(prompt.key)
                    yield prompt


def _judgments(found: Found, log: JudgeLog, model: str, settings: EndpointSettings) -> Iterator[LlmJudgment]:
    """A judgment of everything that has been asked about, in the order of the conversations."""
    for judged, asked in found.prompts():
        entry = log.answer(asked.key)
        if entry is not None:
            yield LlmJudgment(
                about=asked.questions.about,
                conversation=judged.conversation,
                utterance_idx=asked.utterance_idx,
                item=asked.item,
                boxes=entry.boxes,
                answers=entry.answers,
                ratings=entry.ratings,
                missing=entry.missing,
                judge=Judge(model=model, endpoint_model=settings.endpoint_model, served_model=entry.served_model),
                usage=JudgmentUsage(
                    prompt_tokens=entry.prompt_tokens,
                    completion_tokens=entry.completion_tokens,
                    cost_usd=entry.cost_usd,
                ),
                prompt_sha256=asked.key,
            )


def _report(
    console: Console,
    found: Found,
    judgments: Sequence[LlmJudgment],
    log: JudgeLog,
    settings: EndpointSettings,
    output: Path,
    stopped: str | None,
) -> ExitCode:
    missing = Counter(judgment.missing for judgment in judgments if judgment.missing is not None)
    judged = sum(judgment.missing is None and judgment.about == REPLY for judgment in judgments)
    rated = sum(judgment.missing is None and judgment.about == CONVERSATION for judgment in judgments)
    not_asked = sum(1 for _ in found.prompts()) - len(judgments)
    has_prices = Prices.of(settings).cost(0, 0) is not None
    what = f"{judged:,} replies" + (f" and {rated:,} conversations" if rated else "")
    console.print(
        f"{what} judged, {missing.total():,} without a usable answer{_in_brackets(missing)}, {not_asked:,} not "
        f"asked about; {f'{dollars(log.spent_usd)} spent in all' if has_prices else 'no prices are set'}."
    )
    console.print(f"judgments: {output / JUDGMENTS_NAME}")
    if stopped is not None:
        print(f"The judge was stopped: {stopped}. The same command goes on from there.", file=sys.stderr)
    return ExitCode.FAILED if stopped is not None or not_asked or (missing and not judged + rated) else ExitCode.DONE


def _in_brackets(counts: Mapping[str, int], before: str = "") -> str:
    named = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()) if count)
    return f" ({before}{named})" if named else ""


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar, where somebody watches."""
    shown = Console(stderr=True, emoji=False)
    with Progress(console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task("Judging", total=total)
        yield lambda: bar.advance(task)


if __name__ == "__main__":
    os.umask(0o077)  # as compile_results.py
    exit_with(main)
