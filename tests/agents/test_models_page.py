"""docs/models.md: every flag of the Hugging Face agent with its default, and an example that runs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from parlai.core.params import ParlaiParser

from model_chat.agents.endpoint_settings import EndpointSettings, settings_faults
from model_chat.agents.hugging_face import HuggingFaceChatAgent
from model_chat.conversation.pacing import ReplyDelivery, delivery_faults
from model_chat.model_chat_blueprint import ModelChatBlueprintArgs
from model_chat.serving.backend import shared_sentence, sharing
from model_chat.serving.catalogue import models_in_folder, models_in_opt_file
from model_chat.serving.loading import load_model
from model_chat.serving.parlai_weights import DECODING, HISTORY
from model_chat.tests.agents import tiny_models

PAGE = (Path(__file__).resolve().parents[2] / "docs/models.md").read_text(encoding="utf-8")


def test_every_flag_is_documented_with_its_default() -> None:
    parser = ParlaiParser(False, False)
    before = set(parser._option_string_actions)
    HuggingFaceChatAgent.add_cmdline_args(parser)
    flags = {
        flag: action
        for flag, action in parser._option_string_actions.items()
        if flag not in before and flag.startswith("--")
    }
    documented = dict(re.findall(r"^\| `(--[\w-]+)` \| (.*?) \|", PAGE, flags=re.MULTILINE))
    assert set(documented) == set(flags)
    for flag, said in documented.items():
        default = flags[flag].default
        if flag != "--system-prompt":  # a sentence, which the page puts in other words
            assert said == ("–" if default is None else f"`{default}`"), flag


def test_the_example_of_an_own_agent_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (opt,) = re.findall(r"model\.opt: (\{.*\})", example)
    (tmp_path / "my_agents.py").write_text(example, encoding="utf-8")
    (tmp_path / "models/parrot").mkdir(parents=True)
    (tmp_path / "models/parrot/model.opt").write_text(json.dumps(json.loads(opt)), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_agents", raising=False)
    model = load_model(models_in_folder("flag", str(tmp_path / "models"))["parrot"], model_parallel=False)
    clone = model.clone()
    clone.observe({"text": "hello", "episode_done": False})
    assert clone.act()["text"] == "HELLO"
    assert clone.weights is model.agent.weights
    del sys.modules["my_agents"]


SECTION = PAGE[PAGE.index("## Models behind an endpoint") : PAGE.index("## Streaming and pace")]


def test_every_setting_of_an_endpoint_is_documented_with_its_default() -> None:
    documented: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.*?) \|", SECTION, flags=re.MULTILINE):
        settings, said = re.findall(r"`(\w+)`", names), defaults.split(", ")
        documented.update(zip(settings, said * (len(settings) if len(said) == 1 else 1), strict=True))
    assert documented.keys() == EndpointSettings.model_fields.keys()
    for name, said in documented.items():
        default = EndpointSettings.model_fields[name].get_default(call_default_factory=True)
        if default is None or EndpointSettings.model_fields[name].is_required():
            assert said == "–", name
        else:
            assert said.strip("`") == (default if isinstance(default, str) and default else json.dumps(default)), name


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", SECTION, flags=re.DOTALL))
def test_an_example_of_an_endpoint_would_be_taken(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for nickname, settings in yaml.safe_load(example).items():
        if "api_key_env" in settings:
            monkeypatch.setenv(settings["api_key_env"], "sk-page-0123456789abcdef")
        assert settings_faults(nickname, settings) == []


def test_the_characters_of_the_example_share_their_weights(tmp_path: Path) -> None:
    section = PAGE[PAGE.index("### Several characters of one model") : PAGE.index("## Models behind an endpoint")]
    (example,) = re.findall(r"```yaml\n(.*?)```", section, flags=re.DOTALL)
    folder = tiny_models.save(tmp_path / "weights")
    (tmp_path / "models.yaml").write_text(example.replace("~/weights/my-chat-model", str(folder)), encoding="utf-8")
    sources = models_in_opt_file("flag", str(tmp_path / "models.yaml"))
    models = [load_model(source, model_parallel=False) for source in sources.values()]
    (nicknames,) = sharing(models)
    assert shared_sentence(nicknames).rstrip(".") in section
    assert [name for name in (*DECODING, *HISTORY) if f"`{name}`" not in section] == []


def test_the_example_of_a_pace_would_be_taken() -> None:
    (example,) = re.findall(r"```yaml\n(mephisto:.*?)```", PAGE, flags=re.DOTALL)
    flags = yaml.safe_load(example)["mephisto"]["blueprint"]
    args = OmegaConf.structured(ModelChatBlueprintArgs(**flags))
    assert delivery_faults("mephisto.blueprint", args) == []
    assert ReplyDelivery.of(args) == ReplyDelivery(stream=True, first_seconds=2.0, chars_per_second=30.0)
