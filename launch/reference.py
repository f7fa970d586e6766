"""The text of docs/configuration.md, generated from the dataclasses that declare the flags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from model_chat.configuration.exit_codes import MEANINGS as MEANINGS_OF_CODES
from model_chat.configuration.flags import kind_of
from model_chat.configuration.help import (
    FURTHER,
    GROUPS,
    MEANINGS,
    OF_MEPHISTO,
    B,
    T,
    is_branch,
    meanings_of,
    raw_value,
)
from model_chat.configuration.hydra import ROOT, TaskConfig
from model_chat.crowd.panels import KINDS as PANEL_KINDS
from model_chat.launch import task_run as task_run  # registers blueprints, architects and providers
from model_chat.launch.checks import MAY_BE_MISSING

BLUEPRINTS = {
    "text chat": "model_chat_blueprint",
    "image chat": "model_image_chat_blueprint",
    "annotation": "model_annotation_blueprint",
}
ARCHITECTS = {
    "local": "This machine serves the page; no account is needed.",
    "ec2": "A server on Amazon EC2, over HTTPS, which MTurk asks for.",
    "heroku": "A server on Heroku, over HTTPS.",
}
PROVIDERS = {
    "mock": "Whoever has the address is a worker; nobody is paid. For tries.",
    **{name: kind.about for name, kind in PANEL_KINDS.items()},
    "mturk_sandbox": "MTurk's sandbox: everything as on MTurk, with play money.",
    "mturk": "MTurk: workers are paid. AWS announced that MTurk closes for good on 30 September 2026 (docs/mturk.md).",
}
KINDS: dict[type | None, str] = {int: "whole number", float: "number", bool: "true or false", dict: "mapping"}
NOT_LISTED = frozenset({"hydra", "defaults", "blueprint", "architect", "provider", "task", "database"})
"""Keys of the configuration that are no flags, or have tables of their own."""
UNSET, REQUIRED = "unset", "to be given"
PLACES = {"task_dir": "the package's folder", "work_dir": "see its meaning"}
"""Flags whose default is another one on every machine."""

HEAD = """\
<!-- Made by scripts/write_reference.py from the dataclasses that declare the flags. Change those, and run it. -->
# Configuration

Every flag of `run.py` and `run_image_chat.py`, with its type, its default and its meaning.
`python run.py --help` prints the same with the values in force, `python run.py -c job` the whole configuration as YAML.

## How a value is given

1. The defaults below.
2. A file under `conf/`: `conf/example.yaml` for `run.py`, `conf/example_image_chat.yaml` for `run_image_chat.py`, or the one
   that `conf=NAME` names (`conf=example_annotation`: finished conversations are annotated). To have your own, copy one of
   them to `conf/my_study.yaml`, change it, and run it:

   ```bash
   cp conf/example.yaml conf/my_study.yaml
   python run.py conf=my_study
   ```

   Give it a `task_name` and a `chat_data_folder` of its own: conversations are counted by them.
   `python scripts/new_study.py my_study` does all of that, and lays out texts and models to change; with
   `--kind comparison`, `--kind image` or `--kind annotation` for the other kinds of study.

   A folder `conf/` elsewhere is found by `--config-dir`, which names the folder that holds it; what else is in that folder
   does no harm, and neither does a broken file in `conf/` that isn't used. With an installed package,
   `conf/` in the current folder is found by itself.
3. The command line, `flag=value`, which wins:

   ```bash
   python run.py conf=my_study mephisto.blueprint.num_turns=4 mephisto.architect.port=3001
   ```

- A value with `,`, `:`, `(`, `{` or spaces around it takes quotes of its own inside the shell's:
  `'mephisto.blueprint.conversations_needed_string="mine/a:5,mine/b:5"'`.
- Text is what is written, without quotes too: `2024_05`, `007` and `no` are no numbers and no truth values. A list or a
  mapping of your own (`override_opt`) is read as YAML reads it. A duplicate key is refused.
- `null`, or nothing behind the colon, is "unset"; for a flag that can't be unset it is the same as `''`. `${…}` refers to
  another flag.
- Paths may begin with `~`, without quotes too, and hold environment variables; relative ones start where the command is
  given.
- Options begin with dashes (`--help`, `-c job`), flags don't; both may be given in any order. `--conf my_study` is taken for
  `conf=my_study`. A wrong flag is answered by the nearest right one.
- Everything is checked before anything is launched, all faults at once: see [troubleshooting](troubleshooting.md).
- A file under `conf/` begins with `defaults:`, which chooses blueprint, architect and provider. On the command line these
  are written with slashes: `mephisto/provider=mturk_sandbox`.

The contents of files that flags name are described in [file formats](file-formats.md).
"""
EXIT_CODES_OF_OTHERS = """\
The other commands end with 0 when they have done what they were asked, 2 for wrong arguments or files, 130 after Ctrl-C,
and 1 otherwise (`scripts/doctor.py`: a run would not start). `scripts/preview.py` ends by Ctrl-C, so its code is then 0."""


@dataclass
class Flag:
    """One flag.

    Attributes:
        defaults: blueprint in words (empty for flags that aren't a blueprint's) -> default.
    """

    name: str
    kind: str
    meaning: str
    defaults: dict[str, str] = field(default_factory=dict)

    def row(self) -> str:
        """Return the flag as a row of a table."""
        values = set(self.defaults.values())
        if len(values) == 1:
            default = values.pop()
        else:
            default = "; ".join(f"{where}: {value}" for where, value in self.defaults.items())
        where = next(iter(self.defaults)) if len(self.defaults) == 1 else ""
        meaning = f"*{where.capitalize()}.* {self.meaning}" if where else self.meaning
        return f"| `{self.name}` | {self.kind} | {default} | {_cell(meaning)} |"


def reference() -> str:
    """Return the whole page."""
    known = collect()
    lines = [HEAD]
    placed = {name for names in GROUPS.values() for name in names}
    further = [name for name in known if name not in placed]
    for heading, names in {**GROUPS, FURTHER: tuple(further)}.items():
        present = [known[name] for name in names if name in known]
        if present:
            lines += [f"## {heading}", "", *_table(present), ""]
    lines += ["## Where the page is served: `mephisto/architect=…`", ""]
    for name, about in ARCHITECTS.items():
        lines += [f"### `{name}`", "", about, "", *_table(list(_stored("architect", name, "mephisto.architect."))), ""]
    lines += ["## Who the workers are: `mephisto/provider=…`", ""]
    for name, about in PROVIDERS.items():
        lines.append(f"- `{name}`: {about}")
    lines += ["", *_table([next(_stored("provider", "mturk", "mephisto.provider."))]), ""]
    lines += [
        "### Flags of the providers `" + "`, `".join(PANEL_KINDS) + "`",
        "",
        "See [panels](panels.md). The defaults are Prolific's; those of the other panels are there.",
        "",
        *_table(list(_stored("provider", "prolific", "mephisto.provider."))),
        "",
    ]
    lines += [
        "## Exit codes",
        "",
        "What `run.py` and `run_image_chat.py` end with:",
        "",
        "| code | meaning |",
        "|---|---|",
    ]
    lines += [f"| {code.value} | {_cell(meaning)} |" for code, meaning in MEANINGS_OF_CODES.items()]
    lines += ["", EXIT_CODES_OF_OTHERS, ""]
    lines += ["## What the shipped files under `conf/` say", "", "Whatever they don't say has its default.", ""]
    for file in sorted((ROOT / "conf").glob("*.yaml")):
        about = file.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").partition(":  ")[0].rstrip(".")
        lines += [f"### `conf/{file.name}`", "", f"{about}.", "", "| flag | value |", "|---|---|"]
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        for choice in content.pop("defaults"):
            lines += [f"| `{group.strip('/')}` | `{name}` |" for group, name in choice.items()]
        lines += [f"| `{name}` | {_shown(value)} |" for name, value in _leaves(content)]
        lines.append("")
    return "\n".join(lines)


def collect() -> dict[str, Flag]:
    """Return every flag that this project or Mephisto's task declares, but those of architects and providers."""
    found: dict[str, Flag] = {}
    for where, name in BLUEPRINTS.items():
        for flag in _stored("blueprint", name, B):
            found.setdefault(flag.name, flag).defaults[where] = flag.defaults[""]
    for flag in found.values():
        flag.defaults.pop("", None)
    task = ConfigStore.instance().repo["mephisto"]["base_mephisto_config.yaml"].node.task
    found.update((flag.name, flag) for flag in _declared(task, T))
    found.update((flag.name, flag) for flag in _declared(OmegaConf.structured(TaskConfig), ""))
    return found


def _stored(group: str, name: str, prefix: str) -> Iterator[Flag]:
    yield from _declared(ConfigStore.instance().repo["mephisto"][group][f"{name}.yaml"].node, prefix)


def _declared(node: DictConfig, prefix: str) -> Iterator[Flag]:
    """Yield every flag below a node of a structured configuration."""
    meanings = meanings_of(node)
    for key in map(str, node):
        child, name = node._get_node(key), f"{prefix}{key}"
        if key.startswith("_") or key in NOT_LISTED:
            continue
        if is_branch(child):
            yield from _declared(child, f"{name}.")
        else:
            kind = dict if isinstance(child, DictConfig) else kind_of(child)
            yield Flag(name, KINDS.get(kind, "text"), meanings.get(key, ""), {"": _default(name, raw_value(child))})


def _default(name: str, value: Any) -> str:
    if name in PLACES:
        return PLACES[name]
    if value is None or MEANINGS.get(name.rpartition(".")[2], "").startswith(OF_MEPHISTO):
        return UNSET
    if value == "???":
        return REQUIRED if name.startswith((B, T)) and name not in MAY_BE_MISSING else UNSET
    return _shown(value)


def _shown(value: Any) -> str:
    """Return a value as a requester would write it, whatever machine this is."""
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict) and not value:
        return "`{}`"
    text = str(value)
    return f"`{_cell(text.replace(str(ROOT), '${task_dir}'))}`" if text else "`''`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


def _table(flags: list[Flag]) -> list[str]:
    return ["| flag | type | default | meaning |", "|---|---|---|---|", *(flag.row() for flag in flags)]


def _leaves(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
