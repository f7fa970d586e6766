"""Lay out a study of your own, to be changed:  python scripts/new_study.py NAME

    python scripts/new_study.py NAME [--flow] [--design] [--endpoint URL --endpoint-model MODEL [--api-key-env VARIABLE]]

Makes `conf/NAME.yaml` and the folder `NAME/`: the texts that workers see, boxes, onboarding, and two small models to
compare (the shipped demo model with two characters, or with `--endpoint` one behind an OpenAI-compatible endpoint). With
`--flow`, a study flow, too: consent, questions before and after the chat, a debriefing. With `--design`, a design, too: each
worker talks with both models, in balanced order. Nothing that is there already is touched.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from model_chat.agents.endpoint_settings import format_faults
from model_chat.configuration.exit_codes import exit_with, reports_faults
from model_chat.configuration.places import ROOT, command_of, work_dir
from model_chat.errors import ConfigurationError

TEXTS = ("task_description.html", "left_pane_text.html", "annotations_config.json", "onboard_task_data.json")
FLOW = "study_flow.yaml"
DESIGN = "design.yaml"
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
) -> list[Path]:
    """Make a study's files below ``place``.

    Args:
        name: of the study, of its folder and of its file in ``conf/``.
        place: the folder that holds ``conf/`` and the study's own.
        endpoint: settings of a model behind an endpoint, to be used in place of the demo model.

    Returns:
        what was made, the file of the configuration first.

    Raises:
        ConfigurationError: the name is none, or is taken, or the endpoint's settings are wrong.
    """
    if endpoint is not None:
        ConfigurationError.raise_if(format_faults("--endpoint", endpoint))
    folder, conf = place / name, place / "conf" / f"{name}.yaml"
    fault = name_fault(name)
    if fault is not None:
        raise ConfigurationError(fault)
    for taken in (folder, conf):
        if taken.exists():
            raise ConfigurationError(f"NAME: '{taken}' is there already; give another name, or remove it first.")
    made = [conf]
    (folder / "texts").mkdir(parents=True)
    for text in TEXTS:
        made.append(Path(shutil.copyfile(ROOT / "task_config" / text, folder / "texts" / text)))
    if with_flow:
        made.append(Path(shutil.copyfile(ROOT / "task_config" / FLOW, folder / "texts" / FLOW)))
    if with_design:
        design = folder / DESIGN
        design.write_text(_design(), encoding="utf-8")
        made.append(design)
    if endpoint is not None:
        models = folder / "models.yaml"
        models.write_text(_endpoint_models(endpoint), encoding="utf-8")
        made.append(models)
    for nickname, prompt in CHARACTERS.items() if endpoint is None else ():
        opt = folder / "models" / nickname / "model.opt"
        opt.parent.mkdir(parents=True)
        opt.write_text(_model_opt(prompt, opt.parent, place), encoding="utf-8")
        made.append(opt)
    conf.parent.mkdir(exist_ok=True)
    conf.write_text(_configuration(name, endpoint is not None, with_flow, with_design), encoding="utf-8")
    return made


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


def _configuration(name: str, with_endpoint: bool, with_flow: bool = False, with_design: bool = False) -> str:
    """The shipped configuration with the study's own names, and onboarding switched on."""
    text = (ROOT / "conf" / "example.yaml").read_text(encoding="utf-8")
    needed = ",".join(f"{nickname}:{CONVERSATIONS_EACH}" for nickname in CHARACTERS)
    models = f"base_model_folder: ${{work_dir}}/{name}/models"
    if with_endpoint:
        models = f"base_model_folder: null\n    model_opt_path: ${{work_dir}}/{name}/models.yaml"
    wanted = f'conversations_needed_string: "{needed}"'
    if with_design:
        wanted = f"conversations_needed_string: null\n    design_path: ${{work_dir}}/{name}/{DESIGN}"
    changes = {
        **({r"# Which models to talk to, .*": "# Which models to talk to is in the design."} if with_design else {}),
        r"\A# .*\n": f"# The study {name}:  {command_of('run.py')} conf={name}\n",
        r"conversations_needed_string: .*": wanted,
        r" \(scripts/make_demo_models.py fills this one\)": "",
        **({r"# One folder a model: .*": "# The models, and how each is asked."} if with_endpoint else {}),
        r"base_model_folder: .*": models,
        r"chat_data_folder: .*": f"chat_data_folder: ${{work_dir}}/{name}/conversations\n"
        f"    # The texts that workers see.\n    task_config_path: ${{work_dir}}/{name}/texts",
        r"num_turns: .*": "num_turns: 3"
        + (
            "\n    # Consent, questions and texts around the chat (docs/study-flow.md)."
            f"\n    study_flow_path: ${{mephisto.blueprint.task_config_path}}/{FLOW}"
            if with_flow
            else ""
        ),
        r"(# Remembers who has passed onboarding) .*\n *# (onboarding_qualification: ).*": rf"\1.\n    \2{name}_onboarding",
        r"task_name: .*": f'task_name: "{name}"',
    }
    for pattern, replacement in changes.items():
        text, times = re.subn(pattern, replacement, text)
        if times != 1:
            raise RuntimeError(f"conf/example.yaml has {times} places like {pattern!r}")
    return text


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
    args = parser.parse_args()
    made = lay_out(args.name, work_dir(), _endpoint_of(args), args.flow, args.design)
    for file in made:
        print(file.relative_to(work_dir()))
    print(
        f"\nChange them as you like, and see the page meanwhile:  {command_of('scripts/preview.py')} --config {args.name}"
    )
    print(f"Then run it:  {command_of('run.py')} conf={args.name}")
    return 0


if __name__ == "__main__":
    exit_with(main)
