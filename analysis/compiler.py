"""The compiler: from flags to files. Meant to be subclassed; `docs/analysis.md` shows how."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from model_chat.analysis.settings import Settings, add_flags, settings_from
from model_chat.configuration.annotations import RESULT_COLUMN
from model_chat.errors import ConfigurationError

if (
    TYPE_CHECKING
):  # what reads and computes is imported where it begins: --help, and a fault of the flags, don't wait for it
    import pandas as pd

    from model_chat.analysis.collect import Corpus
    from model_chat.analysis.summary import Summary
    from model_chat.records.reading import ReadConversation, ReadUtterance

logger = logging.getLogger(__name__)

_COLUMN_KINDS = (str, int, float, bool)


class ModelChatResultsCompiler:
    """Compiles collected conversations into tables, statistics and a report.

    To adapt it, subclass it: :attr:`extra_columns` and :meth:`row_columns` add columns to the results,
    :meth:`reject` adds a rule of acceptance, :meth:`model_columns` adds statistics per model, :meth:`setup_args` adds
    flags (read them from :attr:`opt`). The hooks run wherever a conversation is read, perhaps in another process: they
    may read the compiler's attributes but what they change there is lost.

    Args:
        opt: the flags, as :meth:`setup_args` parses them (a namespace or a mapping; what is missing has its default).

    Raises:
        ConfigurationError: with a sentence for every fault of the flags.
    """

    extra_columns: Mapping[str, type] = {}
    """Names of own columns of the results and their type: str, int, float or bool."""

    description: ClassVar[str] = (
        "Compile collected conversations into tables, statistics that respect who judged what, and an HTML report."
    )

    def __init__(self, opt: argparse.Namespace | Mapping[str, Any]) -> None:
        given = vars(opt) if isinstance(opt, argparse.Namespace) else dict(opt)
        defaults = {action.dest: action.default for action in self.setup_args()._actions if action.dest != "help"}
        self.opt: dict[str, Any] = {**defaults, **given}
        if not self.opt.get("output_folder"):
            raise ConfigurationError("--output-folder is missing; give the folder where the results go.")
        self.settings: Settings = settings_from(argparse.Namespace(**self.opt))
        self.summary: Summary | None = None
        """The numbers of the last run."""
        self.progress: Callable[[int, int], None] | None = None
        """Called with (done, all) while reading."""
        ConfigurationError.raise_if(self._column_faults())

    @classmethod
    def setup_args(cls) -> argparse.ArgumentParser:
        """The command's parser; a subclass adds its own flags to what this returns."""
        return add_flags(
            argparse.ArgumentParser(
                description=cls.description, epilog="Flags and files are described in docs/analysis.md."
            )
        )

    def reject(self, conversation: ReadConversation) -> str | None:
        """Own rule of acceptance: return why ``conversation`` does not count, or None when it does.

        Asked after the incomplete and the blocked are out, before the word count. Such conversations are listed with
        the reason `own_rule`.
        """
        return None

    def row_columns(
        self, conversation: ReadConversation, utterance: ReadUtterance | None, turn_idx: int
    ) -> Mapping[str, Any]:
        """Values of :attr:`extra_columns` for one row.

        Args:
            conversation: the whole conversation; `conversation.raw` is the JSON as it was saved.
            utterance: the row's utterance; None on the context row.
            turn_idx: -1 on the context row, then 0, 1, …

        Returns:
            Values by column name; a column left out is empty on this row.
        """
        return {}

    def model_columns(self, model_nickname: str, conversations: pd.DataFrame) -> Mapping[str, float]:
        """Own statistics of one model, added to the per-model table.

        Args:
            conversations: its conversations, a row each, with the columns of
                :data:`model_chat.analysis.chunks.CONVERSATION_SCHEMA`. Where it was compared with another, the row has what
                was counted of this model (:meth:`model_chat.analysis.arrays.Data.conversations_of`).
        """
        return {}

    def compile_results(self) -> pd.DataFrame:
        """Read and check everything, and return the results: a row an utterance, turn -1 first.

        :attr:`summary` holds the statistics afterwards. This needs memory for all texts;
        :meth:`compile_and_save_results` does not.
        """
        import pyarrow as pa

        from model_chat.analysis import output

        with self._collected() as corpus:
            self.summary = self._summarise(corpus)
            schema = output.result_schema(corpus, self.extra_columns)
            batches = list(output.result_batches(corpus, self.extra_columns))
            frame: pd.DataFrame = pa.Table.from_batches(batches, schema).to_pandas()
            return frame

    def compile_and_save_results(self) -> dict[str, Path]:
        """Read, check, compute, save and print; return the files written, by what they are."""
        from model_chat.analysis.console import print_summary

        if type(self).compile_results is not ModelChatResultsCompiler.compile_results:
            # A subclass that makes its own results wants them saved, not ours.
            own: pd.DataFrame | None = self.compile_results()
        else:
            own = None
        with self._collected() as corpus:
            summary = self.summary = self._summarise(corpus)
            files = self._save(corpus, summary, own)
        print_summary(summary, files)
        return files

    def _column_faults(self) -> list[str]:
        faults = [
            f"extra_columns of {type(self).__name__} gives '{name}' the type {kind!r}; use str, int, float or bool."
            for name, kind in self.extra_columns.items()
            if kind not in _COLUMN_KINDS
        ]
        faults += [
            f"extra_columns of {type(self).__name__} names '{name}', which is taken; choose another name."
            for name in self.extra_columns
            if name in self.settings.problem_buckets or RESULT_COLUMN.fullmatch(name)
        ]
        return faults

    @contextlib.contextmanager
    def _collected(self) -> Iterator[Corpus]:
        """Read everything; the texts lie in a temporary file beside the results until the end."""
        from model_chat.analysis.collect import collect

        folder = Path(self.settings.output_folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".compiling_") as temporary:
            yield collect(self.settings, self, Path(temporary) / "utterances.arrow", self.progress)

    def _summarise(self, corpus: Corpus) -> Summary:
        from model_chat.analysis.summary import summarise

        summary = summarise(corpus)
        if self.settings.judgments is not None:
            from model_chat.analysis.judge_agreement import judge_agreement
            from model_chat.records.llm_judgments import read_llm_judgments

            summary.judges = judge_agreement(summary.data, read_llm_judgments("--judgments", self.settings.judgments))
        if type(self).model_columns is not ModelChatResultsCompiler.model_columns:
            data = summary.data
            rows = [
                self.model_columns(name, data.conversations_of(data.models.index(name)))
                for name in summary.models["model_nickname"]
            ]
            import pandas as pd

            own = pd.DataFrame(rows, index=summary.models.index)
            summary.models = pd.concat([summary.models, own], axis=1)
        return summary

    def _save(self, corpus: Corpus, summary: Summary, own: pd.DataFrame | None) -> dict[str, Path]:
        from model_chat.analysis import latex, output
        from model_chat.analysis.remarks import remarks

        settings = self.settings
        folder, kind, guard = Path(settings.output_folder), settings.results_format, settings.csv_guard
        stamp = _free_stamp(folder)
        files: dict[str, Path] = {}

        def place(name: str, ending: str) -> Path:
            files[name] = folder / f"{name}_{stamp}.{ending}"
            return files[name]

        path = place("results", kind)
        if own is not None:
            guarded = output.write_frame(path, kind, own, guard)
        else:
            schema = output.result_schema(corpus, self.extra_columns)
            batches = output.result_batches(corpus, self.extra_columns)
            guarded = output.write_batches(path, kind, schema, batches, guard)
        tables = {
            "worker_results": summary.workers,
            "model_results": summary.models,
            "estimates": summary.estimates,
            "ratings": summary.ratings,
            "comparisons": summary.comparisons,
            "turns": summary.turns,
            "agreement": summary.agreement,
            "worker_quality": summary.quality,
            "generations": summary.generations,
            "mixed": summary.mixed,
        }
        compared = summary.preferences
        if compared is not None:
            tables |= {
                "wins": compared.wins,
                "ranking": compared.ranking,
                "comparison_effects": compared.effects,
                "win_curves": compared.curves,
            }
        if summary.conditions is not None:
            tables |= {"conditions": summary.conditions.cells, "effects": summary.conditions.effects}
            tables["interactions"] = summary.conditions.interactions
        if summary.sequential is not None:
            tables["sequential"] = summary.sequential
        if corpus.answers:  # as before where no study flow was used
            tables |= {"items": summary.items, "answers": summary.answers}
        if len(summary.majority):
            tables |= {"majority_labels": summary.majority, "adjudication": summary.adjudication}
        signals = summary.authenticity
        if signals is not None:
            tables |= {"authenticity_workers": signals.workers, "authenticity_results": signals.results}
        if settings.by:
            tables["splits"] = summary.splits
        if summary.judges is not None:
            tables["judge_agreement"] = summary.judges.table
        for name, frame in tables.items():
            output.write_frame(place(name, kind), kind, frame, guard)
        output.write_exclusions(place("excluded", "csv"), corpus.excluded, guard)
        facts = {
            "conversations_found": corpus.sources,
            "conversations_counted": corpus.conversations.num_rows,
            "excluded": corpus.excluded_by_reason,
            "texts_guarded_in_csv": guarded,
            "permutations": settings.permutations,
            "smallest_p_by_permutation": 1 / (settings.permutations + 1),
            "remarks": remarks(summary),
        }
        if summary.judges is not None:
            facts["judge_remarks"] = summary.judges.remarks
        # The answers and labels themselves, texts among them, are data and no statistics.
        data = {"answers", "majority_labels", "adjudication"}
        statistics = {name: frame for name, frame in tables.items() if name not in data}
        output.write_statistics(place("statistics", "json"), statistics, facts)
        latex.write_tables(folder / "tables", summary, files["results"].name)
        files["tables"] = folder / "tables"
        if settings.report:
            # Drawing takes a second to import; nobody who switched it off should wait for it.
            from model_chat.analysis.report import write_report

            write_report(place("report", "html"), summary, files)
        if guarded:
            logger.info("%d texts begin like a formula and got an apostrophe in the csv (--no-csv-guard)", guarded)
        return files


def _free_stamp(folder: Path) -> str:
    """The time as part of file names; a second run in the same second gets a number."""
    now = f"{datetime.datetime.now():%Y%m%d_%H%M%S}"
    stamp, number = now, 1
    while any(folder.glob(f"results_{stamp}.*")):
        number += 1
        stamp = f"{now}_{number}"
    return stamp
