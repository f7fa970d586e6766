"""The doctor says what keeps a task from running, and what to do; what is in order it says, too."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from model_chat.launch.command_line import compose_config
from model_chat.scripts import _doctor_task, doctor
from model_chat.scripts.doctor import Finding, Mark
from model_chat.tests import preloaded
from model_chat.tests.agents import tiny_models
from model_chat.tests.crowd import prolific_server
from model_chat.tests.endpoint_server import Behaviour, reply, serving, status
from model_chat.tests.mephisto_run import Run

ROOT = doctor.ROOT
B = "mephisto.blueprint"
KEY = "sk-doctor-0123456789abcdef"


def executable(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(0o755)


@pytest.fixture
def study(tmp_path: Path) -> list[str]:
    """Flags of a run that would start."""
    model = tmp_path / "models" / "a"
    model.mkdir(parents=True)
    (model / "model.opt").write_text('{"model": "fixed_response", "fixed_response": "Well."}', encoding="utf-8")
    return [
        f"{B}.base_model_folder={tmp_path}/models",
        f'{B}.conversations_needed_string="a:1"',
        f"{B}.chat_data_folder={tmp_path}/conversations",
        f"mephisto.datapath={tmp_path}/mephisto",
        "mephisto.architect.port=0",
    ]


def examined(flags: list[str], load_models: bool = False) -> tuple[bool, list[Finding]]:
    findings: list[Finding] = []
    return doctor.examine(flags, load_models, findings.append), findings


def faults(findings: list[Finding]) -> dict[str, str]:
    return {finding.subject: finding.text for finding in findings if finding.mark is Mark.FAULT}


def test_models_of_the_same_weights_are_named(study: list[str], tmp_path: Path) -> None:
    weights = tiny_models.save(tmp_path / "weights", tiny_models.talkative())
    for nickname in ("kind", "rude"):
        folder = tmp_path / "models" / nickname
        folder.mkdir()
        opt = {"model": "model_chat.agents.hugging_face:HuggingFaceChatAgent", "hf_model": str(weights)}
        (folder / "model.opt").write_text(json.dumps({**opt, "system_prompt": f"Be {nickname}."}), encoding="utf-8")
    flags = [*study, f'{B}.conversations_needed_string="a:1,kind:1,rude:1"']
    _, findings = examined(flags, load_models=True)
    assert faults(findings) == {}
    assert (findings[-1].subject, findings[-1].text) == ("Weights", "kind, rude share one set of weights")


def test_where_all_is_in_order_every_check_says_so(study: list[str]) -> None:
    sound, findings = examined(study, load_models=True)
    assert faults(findings) == {}
    assert sound
    assert [finding.subject for finding in findings] == [
        "Python",
        "Python packages",
        "Home folder",
        "Node.js",
        "The worker's page",
        "The router's packages",
        "Port",
        "Conversations",
        "Mephisto's data folder",
        "Configuration",
        "Model a",
    ]
    assert "answers 'Hi!' with 'Well.'" in findings[-1].text


def test_a_study_flow_is_looked_at(study: list[str], tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("pages: [{id: hello, kind: text, text: Hi}, {id: chat, kind: chat}]", encoding="utf-8")
    _, findings = examined([*study, f"{B}.study_flow_path={path}"])
    assert {finding.subject: finding.text for finding in findings}["Study flow"] == "2 pages (hello, chat) with 0 items"
    path.write_text("pages: []", encoding="utf-8")
    _, findings = examined([*study, f"{B}.study_flow_path={path}"])
    assert "it needs 'pages', a list of at least one page" in faults(findings)["Configuration"]


def test_the_public_address_is_named_with_where_the_proxy_passes_it_on(study: list[str]) -> None:
    sound, findings = examined([*study, "mephisto.architect.public_url=https://Study.example.org/pets"])
    assert sound
    (text,) = (finding.text for finding in findings if finding.subject == "Public address")
    assert text == "https://study.example.org/pets/, which the reverse proxy has to pass on to 127.0.0.1:0"
    sound, findings = examined([*study, "mephisto.architect.public_url=http://study.example.org/"])
    assert not sound
    (only,) = (finding.text for finding in findings if "public_url" in finding.text)
    assert "is not encrypted" in only
    assert "Public address" not in [finding.subject for finding in findings]


def test_every_fault_of_the_configuration_is_said_once_and_nothing_is_launched(
    study: list[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sound, findings = examined([*study, f"mephisto.architect.port={port}", f"{B}.left_pane_text_path=nowhere.html"])
    assert not sound
    texts = [finding.text for finding in findings if finding.mark is Mark.FAULT]
    assert len(texts) == 2
    assert texts[0].startswith(f"mephisto.architect.port: {port} can't be used")
    assert texts[1].startswith(f"{B}.left_pane_text_path: the file 'nowhere.html' does not exist")
    assert not (tmp_path / "mephisto").exists()


def test_a_wrong_flag_ends_the_checks_with_the_right_one(study: list[str]) -> None:
    sound, findings = examined([*study, "num_turn=3"])
    assert not sound
    assert faults(findings) == {"Configuration": f"num_turn: there is no such flag; did you mean {B}.num_turns?"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer"),
    ],
)
def test_a_model_that_cannot_be_one_is_found_without_loading_it(
    study: list[str], tmp_path: Path, content: bytes, problem: str
) -> None:
    (tmp_path / "models/a/model").write_bytes(content)
    assert problem in faults(examined(study)[1])["Model a"]


def test_a_model_whose_agent_does_not_exist_is_a_fault_and_the_others_are_looked_at(
    study: list[str], tmp_path: Path
) -> None:
    other = tmp_path / "models" / "b"
    other.mkdir()
    (other / "model.opt").write_text('{"model": "no_such_agent"}', encoding="utf-8")
    _, findings = examined([*study, f'{B}.conversations_needed_string="b:1,a:1"'])
    assert [finding.subject for finding in findings][-2:] == ["Model b", "Model a"]
    assert faults(findings).keys() == {"Model b"}
    assert "no_such_agent" in faults(findings)["Model b"]


def test_how_replies_are_compared_is_said_and_a_pair_that_is_none_is_a_fault(study: list[str]) -> None:
    compared = [*study, f"{B}.comparison=per_turn", f"{B}.comparison_points=5", f"{B}.comparison_boxes=both"]
    _, findings = examined([*compared, f'{B}.conversations_needed_string="a|a:3"', f"{B}.comparison_allow_self=true"])
    said = {finding.subject: finding.text for finding in findings}
    assert said["Comparisons"] == "per_turn, on 5 points, further answers: both, boxes for both replies"
    assert "a|a 3" in said["Configuration"]
    _, findings = examined([*compared, f'{B}.conversations_needed_string="a|a:3"'])
    assert "compares a model with itself" in faults(findings)["Configuration"]


def test_what_a_panel_costs_is_said_and_prolific_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(prolific_server.VARIABLE, prolific_server.TOKEN)
    with prolific_server.serving() as server:
        flags = {"_provider_type": "prolific", "currency": "GBP", "fee_percent": 0, "api_url": server.url}
        flags |= {"api_token_env": prolific_server.VARIABLE, "study_id": prolific_server.STUDY}
        blueprint = {"resume": True, "conversations_needed_string": "a:5", "_blueprint_type": "model_chat_blueprint"}
        cfg = OmegaConf.create(
            {
                "mephisto": {
                    "datapath": str(tmp_path),
                    "provider": flags,
                    "blueprint": blueprint,
                    "task": {"task_reward": 1.5},
                }
            }
        )
        task = SimpleNamespace(chat_data_folder=tmp_path, task_name="study")
        assert [str(finding) for finding in _doctor_task.check_panel(cfg, task)] == [
            "✓ Panel: Cost: 5 places × £1.50 = £7.50.",
            "! Panel: The study has 20 places left on Prolific, and the run needs 5 conversations: who comes last finds no "
            "work. Ask for more conversations.",
            "✓ Panel: Reward: £1.50 for 12 minutes is £7.50 an hour.",
        ]
        server.tokens.clear()
        (finding,) = _doctor_task.check_panel(cfg, task)
    assert finding.mark is Mark.FAULT
    assert f"the token in {prolific_server.VARIABLE} is not accepted" in finding.text
    cfg.mephisto.provider._provider_type = "mock"
    assert list(_doctor_task.check_panel(cfg, task)) == []


def test_python_is_old_new_or_right() -> None:
    versions = ((3, 10, 1), (3, 11, 0), (3, 12, 0), (3, 13, 9), (3, 14, 0))
    marks = [doctor.check_python(running).mark for running in versions]
    assert marks == [Mark.FAULT, Mark.FINE, Mark.FINE, Mark.FINE, Mark.WARNING]


@pytest.mark.parametrize(
    ("program", "mark", "text"),
    [
        (None, Mark.FAULT, "there is no 'node'"),
        ("echo v18.19.0", Mark.FAULT, "v18.19.0 is too old"),
        ("echo what", Mark.FAULT, "does not say its version"),
        ("exit 3", Mark.FAULT, "does not say its version"),
        ("echo v22.1.0", Mark.FINE, "22.1.0"),
    ],
)
def test_node_is_missing_old_broken_or_right(tmp_path: Path, program: str | None, mark: Mark, text: str) -> None:
    if program is not None:
        executable(tmp_path / "bin/node", program)
    finding = doctor.check_node(str(tmp_path / "bin"))
    assert finding.mark is mark
    assert finding.text.startswith(text) or text in finding.text


def test_packages_that_are_missing_or_not_as_locked_are_named(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("# --- group: run ---\npyyaml==0.1\n# --- group: dev ---\nno-such-package==1\n", encoding="utf-8")
    assert doctor.check_packages(lock).mark is Mark.WARNING
    assert "pyyaml" in doctor.check_packages(lock).text
    lock.write_text("# --- group: run ---\nno-such-package==1\npyyaml==0.1\n", encoding="utf-8")
    assert str(doctor.check_packages(lock)) == "✗ Python packages: missing: no-such-package; run 'make setup'."


def test_a_page_that_is_not_built_or_lacks_a_part_is_a_fault(tmp_path: Path) -> None:
    assert doctor.check_page(tmp_path).text == "is not built; run 'make setup'."
    (tmp_path / "index.html").write_text('<script src="./assets/a.js"></script>', encoding="utf-8")
    assert "lacks ./assets/a.js" in doctor.check_page(tmp_path).text
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/a.js").write_text("", encoding="utf-8")
    assert doctor.check_page(tmp_path).mark is Mark.FINE


def test_router_packages_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text(json.dumps({"dependencies": {"ws": "1", "express": "1"}}), encoding="utf-8")
    package = tmp_path / "node_modules/ws/package.json"
    package.parent.mkdir(parents=True)
    package.write_text("{}", encoding="utf-8")
    assert doctor.check_router(tmp_path).text == "missing: express; run 'make setup'."


def test_a_home_that_is_not_there_is_a_fault_before_mephisto_fails_on_it(tmp_path: Path) -> None:
    assert doctor.check_home(tmp_path).mark is Mark.FINE
    assert doctor.check_home(tmp_path / "nowhere").mark is Mark.FAULT


def test_mephistos_data_folder_and_database_are_looked_at_and_left_as_they_are(
    study: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "mephisto"
    cfg = compose_config("example", study)
    assert [finding.text for finding in _doctor_task.check_mephisto_data(cfg)] == [
        f"{folder} (mephisto.datapath) will be made by the first run"
    ]
    assert not folder.exists()
    folder.mkdir()
    Run(folder)
    assert _doctor_task.check_mephisto_data(cfg)[1] == doctor.fine("Mephisto's database", "in order, 1 task run")
    (folder / "database.db").write_bytes(b"no database" * 1000)
    assert _doctor_task.check_mephisto_data(cfg)[0].mark is Mark.FAULT
    shutil.rmtree(folder)
    folder.write_text("a file", encoding="utf-8")
    assert _doctor_task.check_mephisto_data(cfg)[0].mark is Mark.FAULT


def test_the_command_prints_the_findings_and_its_exit_code_says_whether_a_run_would_start(
    study: list[str], tmp_path: Path
) -> None:
    def run(*more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOME": str(tmp_path)}
        command = [sys.executable, str(ROOT / "scripts/doctor.py"), *study, *more]
        return preloaded.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )

    with serving() as server:
        models = tmp_path / "models.yaml"
        models.write_text(f"e: {{base_url: {server.url}, endpoint_model: x}}\n", encoding="utf-8")
        asks = [f"{B}.model_opt_path={models}", f'{B}.conversations_needed_string="a:1,e:1"']
        good, bad = run(*asks), run("nonsense=1")
    assert (good.returncode, good.stderr) == (0, "")
    *findings, blank, last = good.stdout.splitlines()
    assert (blank, last) == ("", "A run would start.")
    assert all(line.startswith(("✓ ", "! ")) for line in findings), "no line of a library, such as of its HTTP requests"
    assert bad.returncode == 1
    assert bad.stdout.endswith("\nPut right what is marked ✗, and run this again.\n")
    # Mephisto itself makes its configuration folder on import; nothing else is there that wasn't.
    assert {path.name for path in tmp_path.iterdir()} == {"models", "models.yaml", ".mephisto"}


def test_where_nothing_is_installed_it_says_so_with_the_standard_library_alone() -> None:
    # -S -I: neither site-packages nor the repository can be imported, as with a system's Python before the set-up.
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-I",
            "-c",
            f"import runpy, sys; sys.argv = ['doctor.py']; d = runpy.run_path({str(ROOT / 'scripts/doctor.py')!r}); "
            "print(d['examine']([], False, print))",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"✗ Python packages: not installed for {sys.executable}; run 'make setup'.\n" in done.stdout
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (reply(), None),
        (
            status(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
            "the key in TEST_DOCTOR_KEY is not accepted",
        ),
        (status(404), "no such model or address"),
        (status(200, {"object": "list", "data": []}), "broke the reply off"),
        (None, "can't be reached"),
    ],
)
def test_a_model_behind_an_endpoint_is_asked_for_a_reply(
    study: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour | None, words: str | None
) -> None:
    monkeypatch.setenv("TEST_DOCTOR_KEY", KEY)
    with serving() as server:
        server.default = behaviour
        url = "http://127.0.0.1:9/v1" if behaviour is None else server.url
        models = tmp_path / "models.yaml"
        models.write_text(
            f"e: {{base_url: {url}, endpoint_model: x, api_key_env: TEST_DOCTOR_KEY}}\n", encoding="utf-8"
        )
        flags = [*study, f"{B}.model_opt_path={models}", f'{B}.conversations_needed_string="a:1,e:1"']
        sound, findings = examined(flags)
    said = {finding.subject: finding for finding in findings}["Model e"]
    assert sound == (words is None)
    assert said.mark is (Mark.FINE if words is None else Mark.FAULT)
    assert (words or "its endpoint answers") in said.text
    assert KEY not in said.text


def test_without_its_key_no_model_is_asked(study: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_DOCTOR_KEY", raising=False)
    models = tmp_path / "models.yaml"
    models.write_text("e: {base_url: http://127.0.0.1:9/v1, endpoint_model: x, api_key_env: TEST_DOCTOR_KEY}\n")
    flags = [*study, f"{B}.model_opt_path={models}", f'{B}.conversations_needed_string="e:1"']
    sound, findings = examined(flags)
    assert not sound
    assert "the environment variable 'TEST_DOCTOR_KEY' is not set" in faults(findings)["Configuration"]
