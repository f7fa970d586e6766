"""Find everything that keeps a configuration from being composed, one sentence for each fault.

Hydra ends at the first fault, and names the internal type that a wrong flag was not found in; a requester wants to know
which flags are wrong, and which are right. So each fault is noted, what has it is left out, and Hydra is asked again.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from model_chat.configuration.arguments import parsed, shell_quoted, without_quotes
from model_chat.configuration.flags import CHOSEN, all_flags, is_available, nearest_flag
from model_chat.configuration.hydra import CONF_FILES, ROOT

MOST_FAULTS = 100
CLOSE = 0.6
"""How similar (0 to 1, :class:`difflib.SequenceMatcher`) a file's name must be to be suggested."""
KINDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
USUAL = {"blueprint": "model_chat_blueprint", "architect": "local", "provider": "mock"}
IMAGE_BLUEPRINT = "model_image_chat_blueprint"


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        cfg: the configuration without what is faulty; None where there is none.
        touched: flags that the faults are about, or were probably meant: what else is found of them follows from these.
    """

    faults: tuple[str, ...]
    cfg: DictConfig | None
    touched: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Problem:
    """A flag that is not known, or whose value is none."""

    key: str
    error: OmegaConfBaseException
    words: tuple[str, ...]
    """The overrides that have it; none if a file has it."""
    file: str
    """The file of ``conf/`` that has it; "" if it is on the command line."""

    @property
    def place(self) -> str:
        """Where it is, in brackets, unless it is on the command line."""
        return _place(self.file, self.key) if self.file else ""


def diagnose(config_name: str, words: Sequence[str]) -> Diagnosis:
    """Compose a configuration, leaving out what is faulty.

    Args:
        config_name: as :func:`model_chat.configuration.hydra.register` returned it.
    """
    GlobalHydra.instance().clear()
    store = ConfigStore.instance()
    before = copy.deepcopy(store.repo.get("conf", {}))
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return _Examination(config_name, list(words)).run()
    finally:
        store.repo["conf"] = before


def word_faults(words: Iterable[str]) -> dict[str, str]:
    """Find overrides that are faulty whatever the files say.

    Returns:
        override -> sentence.
    """
    found = {word: _word_fault(word) for word in words}
    return {word: fault for word, fault in found.items() if fault is not None}


def _word_fault(word: str) -> str | None:
    try:
        override: Override = OverridesParser.create().parse_overrides([word])[0]
    except CompactHydraException:
        key, equals, value = word.partition("=")
        if not equals:
            return f"{word}: has no value; write flag=value, and see --help for the flags."
        return (
            f"{word}: can't be read; put quotes around a value with signs in it: "
            f"{shell_quoted(key, without_quotes(value))}"
        )
    key = str(override.key_or_group)
    value = word.partition("=")[2]
    if override.is_sweep_override():
        return f"{word}: with a comma it could be several values; put it in quotes: {shell_quoted(key, value)}"
    if override.is_delete() and (key == "conf" or key in all_flags()):
        return f"{word}: a flag can't be deleted; leave it out, or give it another value."
    if key == "hydra.mode":
        return f"{word}: is not available; a run waits for people, so start each by itself."
    group = key.removeprefix("mephisto.")
    if f"mephisto.{group}" == key and group in ConfigStore.instance().repo.get("mephisto", {}):
        return f"{word}: is chosen with a slash; write mephisto/{group}={value}"
    is_free = key.startswith("hydra.") or key == "conf" or "/" in key
    flags = all_flags()
    if override.is_add() and not is_free and key not in flags and _free_parent(key) is None:
        return _no_such_flag(f"+{key}", key, "")
    return None


def _free_parent(key: str) -> str | None:
    """Return the flag that takes keys of any name and that ``key`` is below, None if there is none."""
    return next((name for name, flag in all_flags().items() if key.startswith(f"{name}.") and flag.kind is None), None)


class _Examination:
    """One composing with faults left out."""

    def __init__(self, config_name: str, words: list[str]) -> None:
        self.config_name = config_name
        self.faults: list[str] = []
        self.touched: set[str] = set()
        self.problems: list[_Problem] = []
        wrong = word_faults(words)
        self.faults += wrong.values()
        self.touched.update(word.partition("=")[0].lstrip("+~") for word in wrong)
        self.words = [word for word in words if word not in wrong]
        self.repo: dict[str, Any] = ConfigStore.instance().repo.get("conf", {})

    def run(self) -> Diagnosis:
        files = list(self._files(self._conf()))
        self._choose_what_is_missing(files)
        cfg = self._compose()
        choices = {} if cfg is None else _choices_of(cfg)
        for problem in self.problems:
            self.faults += self._sentences(problem, choices)
        return Diagnosis(tuple(dict.fromkeys(self.faults)), cfg, frozenset(self.touched))

    def _conf(self) -> str:
        """The file of the group ``conf`` that is used."""
        named = [word.partition("=")[2] for word in self.words if word.startswith("conf=")]
        default = self.config_name.removeprefix("model_chat_task_")
        return without_quotes(named[-1]) if named else default

    def _files(self, name: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
        """Go through a file of ``conf`` and those that its defaults name."""
        if name in seen or f"{name}.yaml" not in self.repo:
            return
        yield name
        for item in self._defaults(name):
            other = item if isinstance(item, str) else next(iter(item.values()), None)
            group = "conf" if isinstance(item, str) else str(next(iter(item), "")).removeprefix("override ").strip("/")
            if isinstance(other, str) and group == "conf" and other != "_self_":
                yield from self._files(other.removeprefix("/conf/"), seen | {name})

    def _defaults(self, name: str) -> list[Any]:
        node = self.repo[f"{name}.yaml"].node
        found = node.get("defaults") if isinstance(node, DictConfig) else None
        items = found if isinstance(found, ListConfig) else []
        return [OmegaConf.to_container(item) if OmegaConf.is_config(item) else item for item in items]

    def _choose_what_is_missing(self, files: Sequence[str]) -> None:
        """Say what is not chosen, and choose it, so that the rest can be looked at."""
        if not files:
            return
        chosen = {
            str(key).removeprefix("override ").strip("/")
            for name in files
            for item in self._defaults(name)
            if isinstance(item, dict)
            for key in item
        }
        chosen.update(word.partition("=")[0].lstrip("+") for word in self.words if word.startswith("+mephisto/"))
        missing = [group for group in CHOSEN if f"mephisto/{group}" not in chosen]
        if not missing:
            return
        usual = {**USUAL, "blueprint": self._likely_blueprint(files[0])}
        lines = ", ".join(f"/mephisto/{group}: {usual[group]}" for group in missing)
        path = CONF_FILES[files[0]].path
        where = f"add to its defaults: {lines}" if self._defaults(files[0]) else f"put at its top:  defaults: [{lines}]"
        names = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
        self.faults.append(f"conf={files[0]}: {path} makes no choice of {names}; {where}")
        self.words = [word for word in self.words if word.partition("=")[0] not in [f"mephisto/{m}" for m in missing]]
        node = self.repo[f"{files[0]}.yaml"].node
        added = [{f"/mephisto/{group}": usual[group]} for group in missing]
        with open_dict(node):
            node["defaults"] = OmegaConf.create([*added, *self._defaults(files[0])])

    def _likely_blueprint(self, name: str) -> str:
        given = {word.partition("=")[0] for word in self.words} | set(CONF_FILES[name].lines)
        only_image = {f"mephisto/blueprint={IMAGE_BLUEPRINT}"}
        is_image = any(flag.choices == only_image for key, flag in all_flags().items() if key in given)
        return IMAGE_BLUEPRINT if is_image else USUAL["blueprint"]

    def _compose(self) -> DictConfig | None:
        for _ in range(MOST_FAULTS):
            try:
                return compose(self.config_name, overrides=self.words)
            except (CompactHydraException, OmegaConfBaseException) as error:
                if not self._leave_out(error):
                    return None
        return None

    def _leave_out(self, error: Exception) -> bool:
        """Note a fault and leave out what has it; return whether that was possible."""
        cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
        if isinstance(error, MissingConfigException) and error.missing_cfg_file:
            return self._leave_out_choice(error)
        if there := re.search("An item is already at '(.*?)'", str(error)):
            words = [word for word in self.words if word.startswith(f"+{there[1]}=")]
            self.words = [word for word in self.words if word not in words]
            self.faults += [f"{word}: there is such a flag already; write {word.removeprefix('+')}" for word in words]
            return bool(words)
        if not isinstance(cause, OmegaConfBaseException) or not cause.full_key:
            self.faults.append(_first_line(error))
            return False
        key = str(cause.full_key)
        words = [word for word in self.words if _is_about(word, key)]
        if words:
            self.words = [word for word in self.words if word not in words]
            self.problems.append(_Problem(key, cause, tuple(words), ""))
            return True
        for name in [*self._files(self._conf()), *(file.removesuffix(".yaml") for file in self.repo)]:
            if f"{name}.yaml" in self.repo and _remove(self.repo[f"{name}.yaml"].node, key):
                self.problems.append(_Problem(key, cause, (), name))
                return True
        self.faults.append(f"{key}: {_first_line(cause)}")
        return False

    def _leave_out_choice(self, error: MissingConfigException) -> bool:
        file_name = str(error.missing_cfg_file)
        group, _, choice = file_name.partition("/") if file_name.startswith("conf/") else file_name.rpartition("/")
        file = CONF_FILES.get(choice) if group == "conf" else None
        if file is not None and file.faults:
            self.faults += file.faults
            return False
        known = sorted(CONF_FILES) if group == "conf" else error.options or []
        near = difflib.get_close_matches(choice, known, n=1, cutoff=CLOSE)
        remedy = f"did you mean {group}={near[0]}?" if near else f"there is: {', '.join(known) or 'none'}."
        self.faults.append(f"{group}={choice}: there is no such file; {remedy}")
        words = [word for word in self.words if word.partition("=")[0].lstrip("+") == group and group != "conf"]
        self.words = [word for word in self.words if word not in words]
        return bool(words)

    def _sentences(self, problem: _Problem, choices: dict[str, str]) -> Iterator[str]:
        if isinstance(problem.error, ConfigAttributeError | ConfigKeyError):
            for key, word, place in self._leaves(problem):
                self.touched.add(key)
                yield self._unknown(key, word, place, choices)
            return
        key, said = problem.key, _first_line(problem.error)
        self.touched.add(key)
        flag = all_flags().get(key)
        value = re.match("Value '(.*?)' (?:of type|could not|is not)", said, re.DOTALL)
        word = problem.words[0] if problem.words else ""
        group = key.removeprefix("mephisto.")
        if group in ConfigStore.instance().repo.get("mephisto", {}) and key not in all_flags():
            yield f"{key}: is chosen in the list 'defaults', as  - /mephisto/{group}: …{problem.place}"
        elif isinstance(problem.error, ValidationError) and flag is not None and flag.kind is not None:
            kind = KINDS[flag.kind]
            shown = value[1] if value else (word.partition("=")[2] or "null")
            if flag.kind is str:
                given = shell_quoted(key, word.partition("=")[2]) if word else "the value in quotes"
                yield f"{key}: '{shown}' is not text; give {given}{problem.place}."
            else:
                yield f"{key}: '{shown}' is not {kind}; give {kind}{problem.place}."
        elif flag is not None and flag.kind is None:
            yield f"{key}: is not a mapping{problem.place}; give options of your own as +{key}.name=value."
        else:
            yield f"{key}: {said}{problem.place}; see --help."

    def _leaves(self, problem: _Problem) -> Iterator[tuple[str, str, str]]:
        """Go through the flags that a key stands for: Hydra names the first part that it doesn't know.

        Returns:
            each with its override and its place.
        """
        if problem.words:
            for word in problem.words:
                yield word.partition("=")[0].lstrip("+~"), word, ""
            return
        file = CONF_FILES.get(problem.file)
        lines = {} if file is None else file.lines
        below = [name for name in lines if name.startswith(f"{problem.key}.")]
        ends = [name for name in below if not any(other.startswith(f"{name}.") for other in below)]
        for name in ends or [problem.key]:
            yield name, "", _place(problem.file, name)

    def _unknown(self, key: str, word: str, place: str, choices: dict[str, str]) -> str:
        parent = _free_parent(key)
        flags = all_flags()
        if parent is not None and is_available(flags[parent], choices) and word:
            value = word.partition("=")[2]
            return f"{key}: is open for keys of your own; to add one, write {shell_quoted(f'+{key}', value)}"
        flag = flags.get(key)
        if flag is not None and flag.choices and choices and not is_available(flag, choices):
            group = next(iter(flag.choices)).partition("=")[0]
            others = " or ".join(sorted(flag.choices))
            return (
                f"{key}: is a flag of {others}, and this run has {group}={choices.get(group)}{place}; remove it, or choose "
                "the other."
            )
        near = nearest_flag(key, choices)
        if near is not None:
            self.touched.add(near)
        return _no_such_flag(key, key, place, near)


def _no_such_flag(shown: str, key: str, place: str, near: str | None = None) -> str:
    near = near or nearest_flag(key)
    remedy = "see --help for what there is." if near is None else f"did you mean {near}?"
    return f"{shown}: there is no such flag{place}; {remedy}"


def _place(conf: str, key: str) -> str:
    """Return where a file of ``conf/`` has a key, in brackets."""
    file = CONF_FILES.get(conf)
    line = None if file is None else file.lines.get(key)
    return f" (in the file of conf={conf})" if file is None or line is None else f" (line {line} of {file.path})"


def _is_about(word: str, key: str) -> bool:
    override = parsed(word)
    name = word.partition("=")[0].lstrip("+~") if override is None else str(override.key_or_group)
    return name == key or name.startswith(f"{key}.") or ("/" not in name and key.startswith(f"{name}."))


def _remove(node: Any, key: str) -> bool:
    """Remove a dotted key from a configuration; return whether it was there."""
    *parents, last = key.split(".")
    for part in parents:
        if not isinstance(node, DictConfig) or part not in node or OmegaConf.is_missing(node, part):
            return False
        node = node._get_node(part)
    if not isinstance(node, DictConfig) or last not in list(node):
        return False
    with open_dict(node):
        del node[last]
    return True


def _choices_of(cfg: DictConfig) -> dict[str, str]:
    """Return what a configuration has chosen: ``mephisto/blueprint`` and so on -> the choice."""
    return {
        f"mephisto/{group}": str(cfg.mephisto[group][f"_{group}_type"])
        for group in CHOSEN
        if isinstance(cfg.mephisto.get(group), DictConfig) and f"_{group}_type" in cfg.mephisto[group]
    }


def _first_line(error: BaseException) -> str:
    return " ".join((str(error).splitlines() or [type(error).__name__])[0].split()).rstrip(".")
