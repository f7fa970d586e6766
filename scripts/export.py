"""Write collected conversations in the formats that other tools train on and publish.

    python scripts/export.py --results-folders data/chats --output export --format openai
    python scripts/export.py --conf my_study --output export --format hf-dataset --deidentify --only-consented

See docs/exports.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from model_chat.configuration.exit_codes import ExitCode, exit_with, reports_faults
from model_chat.exports.export import Exported, export
from model_chat.exports.settings import ExportSettings, add_flags, settings_from


@reports_faults
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = add_flags(argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0]))
    options = parser.parse_args(arguments)
    try:
        if options.conf is not None:
            _take_from_study(options)
        settings = settings_from(options)
        _report(settings, export(settings))
    except OSError as error:
        print(f"✗ The export failed: {error}", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.DONE


def _take_from_study(options: argparse.Namespace) -> None:
    """Take from the file of --conf what the command line does not give.

    Raises:
        ConfigurationError: there is no such file, it has faults, or nothing has been collected with it.
    """
    from model_chat.launch.study import find_study  # Hydra and Mephisto, which nothing else here needs

    study = find_study(options.conf)
    if options.results_folders or options.task_name:
        return
    for name, value in study.collected().items():
        setattr(options, name, getattr(options, name) or value)


def _report(settings: ExportSettings, done: Exported) -> None:
    print(f"{done.conversations} conversations, {done.rows} rows: {settings.output / done.files[0]}")
    for title, counts in (
        ("conversations left out", done.left_out_conversations),
        ("without a row", done.left_out_rows),
    ):
        print(f"{title}: {_listed(counts) or 'none'}")
    if settings.deidentify:
        print(f"ids replaced in texts: {done.replaced_in_texts}; the salt is in {settings.salt_file}: don't publish it")
    print(f"card and hashes: {', '.join(done.files[1:])}")
    for name in done.damaged:
        print(f"not readable: {name}", file=sys.stderr)
    if not done.rows:
        print("Nothing was exported: the file is empty.", file=sys.stderr)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in counts.items())


if __name__ == "__main__":
    os.umask(0o077)  # what people wrote is for the requester's account alone; to share a file, give it other rights
    exit_with(main)
