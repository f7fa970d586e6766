"""Lay out a study of your own, to be changed:  python scripts/new_study.py NAME

    python scripts/new_study.py NAME [--kind chat | comparison | image | annotation] [--flow] [--design]
                                     [--endpoint URL --endpoint-model MODEL [--api-key-env VARIABLE]]

Makes `conf/NAME.yaml` and the folder `NAME/`: the texts that workers see, boxes, and what the kind of study needs. For a
chat, and for a comparison of replies, these are onboarding and two small models (the shipped demo model with two characters,
or with `--endpoint` one behind an OpenAI-compatible endpoint); for an image chat, the shipped demo models, or the endpoint
with two characters; for annotation, a file of finished conversations. With `--flow`, a study flow, too: consent, questions
before and after the chat, a debriefing. With `--design`, a design, too: each worker talks with both models, in balanced
order. Nothing that is there already is touched.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from model_chat.agents.endpoint_settings import format_faults
from model_chat.configuration.exit_codes import exit_with, reports_faults
from model_chat.configuration.places import ROOT, command_of, work_dir
from model_chat.errors import ConfigurationError

CHAT, COMPARISON, IMAGE, ANNOTATION = "chat", "comparison", "image", "annotation"


@dataclass(frozen=True)
class Kind:
    """What a kind of study is laid out from.

    Attributes:
        conf: the shipped configuration.
        texts: files of the shipped `task_config/`.
        flags: of the command that make something for this kind, beside those of an endpoint.
    """

    conf: str
    texts: tuple[str, ...]
    flags: tuple[str, ...] = ()


_SHOWN = ("task_description.html", "left_pane_text.html", "annotations_config.json")
_ONBOARDING = "onboard_task_data.json"
KINDS = {
    CHAT: Kind("example.yaml", (*_SHOWN, _ONBOARDING), ("flow", "design", "endpoint")),
    COMPARISON: Kind("example.yaml", (*_SHOWN, _ONBOARDING), ("flow", "endpoint")),
    IMAGE: Kind("example_image_chat.yaml", tuple(f"image_{name}" for name in _SHOWN), ("flow", "endpoint")),
    ANNOTATION: Kind("example_annotation.yaml", (*(f"annotation_{name}" for name in _SHOWN), _ONBOARDING)),
}
LOGS = "logs.jsonl"
_LOGGED = (
    ("How do I cook rice?", "Rinse it, then simmer it in twice as much water.", "And for sushi?", "Sushi is a fish."),
    ("Do you sail?", "Every summer, with my sister.", "Where?", "I have never been on a boat."),
)
FLOW = "study_flow.yaml"
DESIGN = "design.yaml"
_PAGES = {"flow": "docs/study-flow.md", "design": "docs/study-design.md", "endpoint": "docs/models.md"}
CHARACTERS = {
    "warm": "You are warm and curious. Answer in one or two short sentences, and ask about the other one.",
    "curt": "You are in a hurry. Answer in at most five words, and never ask anything.",
}
"""Nickname -> system prompt."""
CONVERSATIONS_EACH = 5
READ_OTHERWISE = frozenset({"null", "none", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"})
"""Names that Hydra, or YAML of one version or another, takes for numbers, truth values or nothing."""


def lay_out(
    name: str,
    place: Path,
    endpoint: Mapping[str, Any] | None = None,
    with_flow: bool = False,
    with_design: bool = False,
    kind: str = CHAT,
) -> list[Path]:
    """Make a study's files below ``place``.

    Args:
        name: of the study, of its folder and of its file in ``conf/``.
        place: the folder that holds ``conf/`` and the study's own.
        endpoint: settings of a model behind an endpoint, to be used in place of the demo models.
        kind: one of :data:`KINDS`.

    Returns:
        what was made, the file of the configuration first.

    Raises:
        ConfigurationError: the name is none, or is taken, the endpoint's settings are wrong, or the kind has no such files.
    """
    asked = {"flow": with_flow, "design": with_design, "endpoint": endpoint is not None}
    faults = [
        f"--{flag}: makes nothing for --kind {kind}; leave it out, or write one yourself ({page})."
        for flag, page in _PAGES.items()
        if asked[flag] and flag not in KINDS[kind].flags
    ]
    if endpoint is not None:
        faults += format_faults("--endpoint", endpoint)
    folder, conf = place / name, place / "conf" / f"{name}.yaml"
    fault = name_fault(name)
    if fault is not None:
        faults.append(fault)
    else:
        faults += [
            f"NAME: '{taken}' is there already; give another name, or remove it first."
            for taken in (folder, conf)
            if taken.exists()
        ]
    ConfigurationError.raise_if(faults)
    texts = [*KINDS[kind].texts, *([FLOW] if with_flow else [])]
    files = {folder / "texts" / text: (ROOT / "task_config" / text).read_text(encoding="utf-8") for text in texts}
    if with_design:
        files[folder / DESIGN] = _design()
    if endpoint is not None:
        files[folder / "models.yaml"] = _endpoint_models(
            {**endpoint, **({"takes_images": True} if kind == IMAGE else {})}
        )
    if kind == ANNOTATION:
        files[folder / LOGS] = _logs()
    for nickname, prompt in CHARACTERS.items() if endpoint is None and kind in (CHAT, COMPARISON) else ():
        model = folder / "models" / nickname
        files[model / "model.opt"] = _model_opt(prompt, model, place)
    files[conf] = _configuration(name, kind, endpoint is not None, with_flow, with_design)
    for file, content in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return [conf, *(file for file in files if file != conf)]


def name_fault(name: str) -> str | None:
    """Say why a study can't have this name; None if it can.

    A study's folder lies where its user starts Python, which would import it in the place of a package of that name.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        return f"NAME: '{name}' must be letters, digits and underscores, a letter first; give one such as my_study."
    if not isinstance(yaml.safe_load(name), str) or name.lower() in READ_OTHERWISE:
        return f"NAME: '{name}' is read as something else than a name on a command line or in YAML; try {name}_study."
    taken = {"conf", "data", "models", "outputs", "multirun", "model_chat"}
    taken |= {path.stem for path in ROOT.iterdir() if path.suffix in ("", ".py")}
    if name.lower() in {other.lower() for other in taken}:
        return f"NAME: '{name}' is the name of a folder or module that is used here; try {name}_study."
    found = importlib.util.find_spec(name)
    if name in sys.stdlib_module_names or (found is not None and found.origin is not None):
        return f"NAME: '{name}' is the name of a Python package that is used here; try {name}_study."
    return None


def _model_opt(prompt: str, folder: Path, place: Path) -> str:
    weights = os.path.relpath(place / "models/demo/smollm2", folder)
    opt = {
        "model": "model_chat.agents.hugging_face:HuggingFaceChatAgent",
        "hf_model": weights,
        "system_prompt": prompt,
        "dict_lower": False,
    }
    return json.dumps(opt, indent=2) + "\n"


def _endpoint_models(endpoint: Mapping[str, Any]) -> str:
    models = {nickname: {**endpoint, "system_prompt": prompt} for nickname, prompt in CHARACTERS.items()}
    return (
        "# Models behind an endpoint; all settings are in docs/models.md. Keys never stand here: api_key_env names the\n"
        "# environment variable that holds one.\n" + yaml.safe_dump(models, sort_keys=False, width=10_000)
    )


def _design() -> str:
    return (
        "# Which conditions each worker gets (docs/study-design.md): both models, one after the other, in balanced order.\n"
        f"factors:\n  model: [{', '.join(CHARACTERS)}]\nwithin: [model]\norder: latin_square\n"
        f"conversations_per_cell: {CONVERSATIONS_EACH}\nseed: 42\n"
    )


def _logs() -> str:
    """Finished conversations, to be replaced by one's own (docs/agreement.md)."""
    lines = [
        {
            "id": f"example-{number}",
            "messages": [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)],
        }
        for number, texts in enumerate(_LOGGED, 1)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _configuration(name: str, kind: str, with_endpoint: bool, with_flow: bool, with_design: bool) -> str:
    """The shipped configuration of this kind with the study's own names; onboarding is switched on where there is any."""
    text = (ROOT / "conf" / KINDS[kind].conf).read_text(encoding="utf-8")
    own = f"${{work_dir}}/{name}"
    task_config = (
        f"chat_data_folder: {own}/conversations\n    # The texts that workers see.\n    task_config_path: {own}/texts"
    )
    if with_flow:
        task_config += (
            "\n    # Consent, questions and texts around the chat (docs/study-flow.md)."
            f"\n    study_flow_path: ${{mephisto.blueprint.task_config_path}}/{FLOW}"
        )
    changes = {
        r"\A# .*\n(# It asks .*\n)?": f"# The study {name}:  {command_of('run.py')} conf={name}\n",
        r"chat_data_folder: .*": task_config,
        r"task_name: .*": f'task_name: "{name}"',
        **(_of_chats(name, kind, with_endpoint, with_design) if kind in (CHAT, COMPARISON) else {}),
    }
    if kind == IMAGE:
        changes[r"stack_folder: .*"] = f"stack_folder: {own}/image_stack"
        changes[r'# "make image" makes .*'] = (
            '# "make image" makes demo images, and models for them (docs/image-chat.md).'
        )
        changes[r"image_chat_block"], changes[r"image_chat_onboarding"] = f"{name}_block", f"{name}_onboarding"
        if with_endpoint:
            changes[r"# Models: a folder, .*\n *"] = ""
            changes[r"base_model_folder: .*\n *model_opt_path: .*"] = _endpoint_file(name)
            changes[r"image_models: .*"] = f'image_models: "{",".join(CHARACTERS)}"'
    if kind == ANNOTATION:
        changes[r"logs_path: .*"] = f"logs_path: {own}/{LOGS}"
    if _ONBOARDING in KINDS[kind].texts:
        changes[r"(# Remembers who has passed onboarding).*\n *# (onboarding_qualification: ).*"] = (
            rf"\1.\n    \2{name}_onboarding"
        )
    for pattern, replacement in changes.items():
        text, times = re.subn(pattern, replacement, text)
        if times != 1:
            raise RuntimeError(f"conf/{KINDS[kind].conf} has {times} places like {pattern!r}")
    return text


def _of_chats(name: str, kind: str, with_endpoint: bool, with_design: bool) -> dict[str, str]:
    """What is changed in the configuration of a text chat, by pattern."""
    models = _endpoint_file(name) if with_endpoint else f"base_model_folder: ${{work_dir}}/{name}/models"
    pairs = ["|".join(CHARACTERS)] if kind == COMPARISON else CHARACTERS
    wanted = f'conversations_needed_string: "{",".join(f"{pair}:{CONVERSATIONS_EACH}" for pair in pairs)}"'
    which = r"# Which models to talk to, .*"
    changes = {
        r" \(scripts/make_demo_models.py fills this one\)": "",
        r"base_model_folder: .*": models,
        r"num_turns: .*": "num_turns: 3",
    }
    if with_endpoint:
        changes[r"# One folder a model: .*"] = "# The models, and how each is asked."
    if with_design:
        changes[which] = "# Which models to talk to is in the design."
        wanted = f"conversations_needed_string: null\n    design_path: ${{work_dir}}/{name}/{DESIGN}"
    if kind == COMPARISON:
        changes[which] = (
            "# Both models of a pair answer each message, and the worker picks a reply (docs/comparisons.md). With paired,\n"
            "    # there is a chat with each of the two.\n    comparison: per_turn\n"
            "    # Pairs, and how many conversations with each: nickname|nickname:count,…"
        )
    return {**changes, r"conversations_needed_string: .*": wanted}


def _endpoint_file(name: str) -> str:
    return f"base_model_folder: null\n    model_opt_path: ${{work_dir}}/{name}/models.yaml"


def _endpoint_of(args: argparse.Namespace) -> dict[str, Any] | None:
    """Return the settings of the endpoint that is asked for, or None.

    Raises:
        ConfigurationError: one of the arguments needs another.
    """
    if args.endpoint is None and (args.endpoint_model is not None or args.api_key_env is not None):
        raise ConfigurationError("--endpoint: is not given; --endpoint-model and --api-key-env need its address.")
    if args.endpoint is None:
        return None
    if args.endpoint_model is None:
        raise ConfigurationError("--endpoint-model: is not given; --endpoint needs the model's name there.")
    given = {"base_url": args.endpoint, "endpoint_model": args.endpoint_model, "api_key_env": args.api_key_env}
    return {name: value for name, value in given.items() if value is not None}


@reports_faults
def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":  ")[0] + ".")
    parser.add_argument("name", metavar="NAME", help="letters, digits and underscores, such as my_study")
    parser.add_argument(
        "--endpoint", metavar="URL", help="address of an OpenAI-compatible endpoint, such as https://host/v1"
    )
    parser.add_argument("--endpoint-model", metavar="MODEL", help="the model's name there")
    parser.add_argument(
        "--api-key-env", metavar="VARIABLE", help="environment variable that holds the key, if it wants one"
    )
    parser.add_argument(
        "--flow",
        action="store_true",
        help="make a study flow, too: consent, questions, a debriefing (docs/study-flow.md)",
    )
    parser.add_argument(
        "--design",
        action="store_true",
        help="make a design, too: each worker talks with both models, in balanced order (docs/study-design.md)",
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default=CHAT,
        help="comparison: two replies to each message (docs/comparisons.md); image: a chat about an image "
        "(docs/image-chat.md); annotation: people judge finished conversations (docs/agreement.md); default: %(default)s",
    )
    args = parser.parse_args()
    made = lay_out(args.name, work_dir(), _endpoint_of(args), args.flow, args.design, args.kind)
    for file in made:
        print(file.relative_to(work_dir()))
    print(
        f"\nChange them as you like, and see the page meanwhile:  {command_of('scripts/preview.py')} --config {args.name}"
    )
    print(f"Then run it:  {command_of('run.py')} conf={args.name}")
    return 0


if __name__ == "__main__":
    exit_with(main)
