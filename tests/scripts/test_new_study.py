"""A study that has just been laid out would start, and nothing of the requester's is ever overwritten."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from model_chat.agents.hugging_face import HuggingFaceChatAgent
from model_chat.configuration import hydra as hydra_module
from model_chat.errors import ConfigurationError
from model_chat.images.contexts import ImageContextsWriter
from model_chat.launch.checked_task import CheckedTask
from model_chat.launch.checks import check_task
from model_chat.launch.command_line import compose_config
from model_chat.scripts import new_study
from model_chat.scripts.new_study import CHARACTERS, lay_out
from model_chat.serving.catalogue import models_in_folder


def test_a_new_study_would_start_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lay_out("my_study", tmp_path)
    assert all(file.is_file() for file in made)
    monkeypatch.setattr(hydra_module, "work_dir", lambda: tmp_path)
    task = check_task(compose_config("example", ["conf=my_study", "mephisto.architect.port=0"]))
    assert task.needed == {"warm": 5, "curt": 5}
    assert task.chat_data_folder == tmp_path / "my_study/conversations"
    assert task.task_name == "my_study_local"
    assert task.onboarding is not None
    # Its own texts are read, not the shipped ones.
    (tmp_path / "my_study/texts/task_description.html").write_text("<p>Tea.</p>", encoding="utf-8")
    task = check_task(compose_config("example", ["conf=my_study", "mephisto.architect.port=0"]))
    assert task.task_description == "<p>Tea.</p>"


def test_its_models_are_the_demo_model_with_two_characters(tmp_path: Path) -> None:
    lay_out("my_study", tmp_path)
    sources = models_in_folder("flag", str(tmp_path / "my_study/models"))
    assert set(sources) == set(CHARACTERS)
    folder = sources["warm"].folder
    assert folder is not None
    opt = (folder / "model.opt").read_text(encoding="utf-8")
    assert f"{HuggingFaceChatAgent.__module__}:{HuggingFaceChatAgent.__name__}" in opt
    assert '"hf_model": "../../../models/demo/smollm2"' in opt
    assert (folder / "../../../models/demo/smollm2").resolve() == tmp_path / "models/demo/smollm2"


@pytest.mark.parametrize("taken", ["my_study", "conf/my_study.yaml"])
def test_what_is_there_is_not_touched(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="is there already; give another name"):
        lay_out("my_study", tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["../x", "my study", "1st", "", "2024_05"])
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="such as my_study"):
        lay_out(name, tmp_path)


ENDPOINT = {"base_url": "https://host.example/v1", "endpoint_model": "name-there", "api_key_env": "TEST_STUDY_KEY"}


def test_a_study_with_an_endpoint_would_start_once_the_key_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = lay_out("my_study", tmp_path, ENDPOINT)
    assert tmp_path / "my_study/models.yaml" in made
    assert not (tmp_path / "my_study/models").exists()
    monkeypatch.setattr(hydra_module, "work_dir", lambda: tmp_path)
    given = ["conf=my_study", "mephisto.architect.port=0"]
    monkeypatch.delenv("TEST_STUDY_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="'TEST_STUDY_KEY' is not set"):
        check_task(compose_config("example", given))
    monkeypatch.setenv("TEST_STUDY_KEY", "sk-study-0123456789abcdef")
    task = check_task(compose_config("example", given))
    assert task.needed == {"warm": 5, "curt": 5}
    for nickname, prompt in CHARACTERS.items():
        assert task.sources[nickname].endpoint == {**ENDPOINT, "system_prompt": prompt}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--endpoint", "host/v1", "--endpoint-model", "x"], "'base_url'"),
        (["--endpoint", "https://host/v1"], "--endpoint-model: is not given"),
        (["--endpoint-model", "x"], "--endpoint: is not given"),
        (["--api-key-env", "X"], "--endpoint: is not given"),
        (["--endpoint", "https://h/v1", "--endpoint-model", "x", "--api-key-env", "sk-a b"], "'api_key_env'"),
    ],
)
def test_wrong_arguments_of_an_endpoint_are_said_and_nothing_is_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.setattr(new_study, "work_dir", lambda: tmp_path)
    monkeypatch.setattr(sys, "argv", ["new_study.py", "my_study", *arguments])
    assert new_study.main() == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["no", "Yes", "ON", "off", "y", "N", "null", "Null", "true", "False", "nan", "inf"])
def test_a_name_that_yaml_or_hydra_reads_as_something_else_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"is read as something else .*; try {name}_study"):
        lay_out(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["model_chat", "conf", "analysis", "records", "Models", "data", "worlds", "yaml", "mephisto", "json", "random"],
)
def test_a_name_that_would_take_the_place_of_a_package_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{name}' is the name of a .* used here; try {name}_study"):
        lay_out(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("endpoint", [None, {"base_url": "https://host/v1", "endpoint_model": "m"}])
def test_with_a_flow_it_has_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: dict[str, str] | None
) -> None:
    made = lay_out("my_study", tmp_path, endpoint, with_flow=True)
    assert tmp_path / "my_study/texts/study_flow.yaml" in made
    monkeypatch.setattr(hydra_module, "work_dir", lambda: tmp_path)
    cfg = compose_config("example", ["conf=my_study", "mephisto.architect.port=0"])
    assert cfg.mephisto.blueprint.study_flow_path == str(tmp_path / "my_study/texts/study_flow.yaml")
    flow = check_task(cfg).study_flow
    assert flow is not None
    assert [page.kind for page in flow.pages] == ["consent", "questions", "chat", "questions", "text"]


def test_without_one_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out("my_study", tmp_path)
    monkeypatch.setattr(hydra_module, "work_dir", lambda: tmp_path)
    assert check_task(compose_config("example", ["conf=my_study", "mephisto.architect.port=0"])).study_flow is None


@pytest.mark.parametrize("endpoint", [None, {"base_url": "https://host/v1", "endpoint_model": "m"}])
def test_with_a_design_each_worker_talks_with_both_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: dict[str, str] | None
) -> None:
    made = lay_out("my_study", tmp_path, endpoint, with_design=True)
    assert tmp_path / "my_study/design.yaml" in made
    monkeypatch.setattr(hydra_module, "work_dir", lambda: tmp_path)
    task = check_task(compose_config("example", ["conf=my_study", "mephisto.architect.port=0"]))
    assert task.design is not None
    assert list(task.design.design.within) == ["model"]
    assert task.needed == {"warm": 5, "curt": 5}


@pytest.fixture
def image_models(tmp_path: Path) -> None:
    """The demo models and images, as "make image" puts them there."""
    for nickname in ("shapes_a", "shapes_b"):
        (tmp_path / "models/demo" / nickname).mkdir(parents=True)
        (tmp_path / "models/demo" / nickname / "model.opt").write_text('{"model": "fixed_response"}', encoding="utf-8")
    (tmp_path / "data").mkdir()
    with ImageContextsWriter(tmp_path / "data/image_contexts.parquet") as writer:
        writer.add(Image.new("RGB", (8, 8)), {}, {})


def checked(place: Path, monkeypatch: pytest.MonkeyPatch) -> CheckedTask:
    monkeypatch.setattr(hydra_module, "work_dir", lambda: place)
    task = check_task(compose_config("example", ["conf=my_study", "mephisto.architect.port=0"]))
    assert task.chat_data_folder == place / "my_study/conversations"
    assert task.task_name == "my_study_local"
    return task


@pytest.mark.parametrize("endpoint", [None, {"base_url": "https://host/v1", "endpoint_model": "m"}])
def test_a_comparison_would_start_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: dict[str, str] | None
) -> None:
    lay_out("my_study", tmp_path, endpoint, with_flow=True, kind="comparison")
    task = checked(tmp_path, monkeypatch)
    assert task.needed == {"warm|curt": 5}
    assert task.onboarding is not None
    assert task.study_flow is not None


@pytest.mark.usefixtures("image_models")
@pytest.mark.parametrize("endpoint", [None, {"base_url": "https://host/v1", "endpoint_model": "m"}])
def test_an_image_chat_would_start_once_there_are_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: dict[str, str] | None
) -> None:
    lay_out("my_study", tmp_path, endpoint, with_flow=True, kind="image")
    task = checked(tmp_path, monkeypatch)
    assert task.images is not None
    assert task.images.stack_folder == tmp_path / "my_study/image_stack"
    assert set(task.needed) == (set(CHARACTERS) if endpoint else {"demo/shapes_a", "demo/shapes_b"})
    if endpoint:
        assert [bool((source.endpoint or {}).get("takes_images")) for source in task.sources.values()] == [True, True]
    (tmp_path / "my_study/texts/image_task_description.html").write_text("<p>Tea.</p>", encoding="utf-8")
    assert checked(tmp_path, monkeypatch).task_description == "<p>Tea.</p>"


def test_an_annotation_would_start_as_it_is_with_its_own_conversations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out("my_study", tmp_path, kind="annotation")
    task = checked(tmp_path, monkeypatch)
    assert task.logs is not None
    assert [logged.replies for logged in task.logs.conversations] == [2, 2]
    assert task.onboarding is not None
    (tmp_path / "my_study/texts/annotation_task_description.html").write_text("<p>Tea.</p>", encoding="utf-8")
    assert checked(tmp_path, monkeypatch).task_description == "<p>Tea.</p>"


def test_what_a_kind_has_no_files_for_is_refused_with_all_other_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(new_study, "work_dir", lambda: tmp_path)
    asked = ["--flow", "--design", "--endpoint", "host", "--endpoint-model", "m"]
    monkeypatch.setattr(sys, "argv", ["new_study.py", "my study", "--kind", "annotation", *asked])
    assert new_study.main() == 2
    told = capsys.readouterr().err
    for flag in ("flow", "design", "endpoint"):
        assert f"--{flag}: makes nothing for --kind annotation; leave it out" in told
    assert "'base_url'" in told
    assert "NAME: 'my study' must be letters" in told
    assert list(tmp_path.iterdir()) == []
