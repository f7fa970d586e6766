"""Every command of a page does what the page says: typed in the page's order, by a shell, in a copy of the repository.

What is not typed here is marked on its page as needing something that no test has, or stands in :data:`RUN_ELSEWHERE`.
"""

from __future__ import annotations

import ast
import csv
import functools
import json
import re
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from model_chat.configuration.text_files import load_texts
from model_chat.configuration.worker_texts import worker_text
from model_chat.quality.blocks import find_worker
from model_chat.records.schema import Completion, Conversation, TaskDescription, Utterance
from model_chat.router.local_architect import ROUTER_PACKAGES
from model_chat.tests.docs.pages import COMMANDS, NEEDS, ROOT, commands_of
from model_chat.tests.docs.place import Walk, fetch, find
from model_chat.tests.e2e.running_task import make_fixed_model, wait_until
from model_chat.tests.endpoint_server import Exchange, reply, serving
from model_chat.tests.mephisto_run import PASSED, Run

BUCKETS = ("contradiction", "off_topic", "repetition", "unlikely_claim", "unkind", "none_all_good")
MAKEFILE, SETUP = "Makefile", "scripts/setup_env.py"
RUN_ELSEWHERE = {
    "make lint": (".ci/run", " lint-python lint-page ", "CI's first command, in its two parts"),
    "make test": (".ci/run", "PAGE_IS_TESTED=1 test\n", "CI's second command; the page's own tests are in the first"),
    "make chaos": (
        MAKEFILE,
        'or chaos" tests/e2e tests/chaos ',
        "half an hour; 'make test' runs them in their short form",
    ),
    "MODEL_CHAT_FUZZ_EXAMPLES=200000 pytest tests/test_fuzz.py": (
        MAKEFILE,
        "not e2e and not slow",
        "hours; so with fewer",
    ),
    ".venv/bin/python -m pytest tests/serving -q": (MAKEFILE, "not e2e and not slow", "a part of it"),
    '.venv/bin/python -m pytest -m "not e2e and not slow and not chaos" -q': (
        MAKEFILE,
        '-m "not e2e and not slow and not chaos"',
        "the same",
    ),
    ".venv/bin/python -m pytest tests/e2e/test_browser.py -q": (
        MAKEFILE,
        '-m "e2e or slow or chaos" tests/e2e ',
        "a part of it",
    ),
    "cd frontend && npm test": (MAKEFILE, "cd frontend && npm run --silent test\n", "the same"),
    "npm test": (MAKEFILE, "cd frontend && npm run --silent test\n", "the same"),
    "npm run lint": (MAKEFILE, "npm run --silent lint", "'make lint' does"),
    "npm run typecheck": (MAKEFILE, "npm run --silent typecheck", "'make lint' does"),
    "npm ci": (SETUP, 'run("npm", "ci"', "the set-up does, from the network"),
    "npm run build": (SETUP, 'run("npm", "run", "--silent", "build"', "the set-up does"),
    "python scripts/make_demo_models.py": (MAKEFILE, "python scripts/make_demo_models.py\n", "'make test' does"),
    "python run.py": (MAKEFILE, "python run.py ", "'make run' does, which is typed below"),
    "python run_image_chat.py": (
        MAKEFILE,
        "python run_image_chat.py ",
        "'make image' does, which is typed below",
    ),
    "python scripts/new_study.py my_study": (
        "docs/installing.md",
        "python -m model_chat.scripts.new_study my_study",
        "the same command of an installed package, typed there; with more flags the README's is",
    ),
    "python benchmarks/many_workers.py --workers 64": (
        "docs/performance.md",
        "python benchmarks/many_workers.py --workers 8,64,128",
        "the same with another number, and a test takes its own",
    ),
    "python run.py conf=my_study mephisto.architect.public_url=https://study.example.org/pets/": (
        "tests/e2e/test_self_hosting.py",
        'start_task(f"mephisto.architect.public_url={ports.origin}/pets/"',
        "with Caddy and Chromium",
    ),
    "python run.py conf=pets   mephisto.architect.port=3000 mephisto.architect.public_url=https://study.example.org/pets/": (
        "tests/e2e/test_self_hosting.py",
        "pets = start_task(",
        "with Caddy and Chromium",
    ),
    "python run.py conf=plants mephisto.architect.port=3001 "
    "mephisto.architect.public_url=https://study.example.org/plants/": (
        "tests/e2e/test_self_hosting.py",
        "plants = start_task(",
        "beside the one before",
    ),
    "python scripts/simulate_workers.py --workers 2 --public-url https://study.example.org/pets/": (
        "tests/e2e/test_self_hosting.py",
        '"--workers", "2", "--public-url", public',
        "with a run that has this address",
    ),
    "python run.py conf=prolific mephisto.provider.codes.complete=C1DONE88": (
        "tests/e2e/test_panels.py",
        '"conf=prolific"',
        "over the wire, with a participant who comes",
    ),
    "python run.py conf=link mephisto.provider.codes.complete=THANK-YOU-42": (
        "tests/e2e/test_panels.py",
        '"conf=link"',
        "likewise",
    ),
    "python run.py conf=my_study mephisto.blueprint.serving=ray": (
        "tests/e2e/test_ray.py",
        "mephisto.blueprint.serving=ray",
        "over the wire, with more to see",
    ),
    "python benchmarks/ray_overhead.py": (
        "tests/serving/test_ray_serving.py",
        '"benchmarks/ray_overhead.py"',
        "on the Ray of the tests there",
    ),
    "python run.py conf=my_study mephisto.blueprint.record_authenticity=true": (
        "tests/e2e/test_authenticity_in_browser.py",
        '"mephisto.blueprint.record_authenticity=true"',
        "with Chromium",
    ),
    "python analysis/compile_results.py --conf my_study --output-folder results --max-pasted-share 0.5": (
        "tests/analysis/test_authenticity.py",
        '"max_pasted_share": 1.0',
        "with every threshold",
    ),
}
"""Line -> where it is run instead, what stands there, and why. CI runs all of 'make test' and 'make lint'."""


def walks(page: str) -> pytest.MarkDecorator:
    """The page that a test walks through."""
    return pytest.mark.parametrize("walk", [page], indirect=True)


# --- what a page presumes ---


def write_example(walk: Walk, marked: str, name: str) -> None:
    """Write the file that a page shows, as it tells to."""
    text = (ROOT / walk.page).read_text(encoding="utf-8")
    (example,) = re.findall(rf"<!-- example: {marked} -->\n```python\n(.*?)```", text, flags=re.DOTALL)
    (walk.copy / name).write_text(example, encoding="utf-8")


@contextmanager
def collected(walk: Walk, task_name: str, worker: str = "WORKER") -> Iterator[Run]:
    """A task with a conversation of one worker in both records: Mephisto's, in the home folder, and a file."""
    data = walk.home / ".mephisto/data"
    data.mkdir(parents=True)
    (data.parent / "config.yml").write_text(f"core:\n  main_data_directory: {data}\n", encoding="utf-8")
    run = Run(data, task_name)
    from mephisto.abstractions.providers.mock.mock_agent import MockAgent
    from mephisto.data_model.worker import Worker

    agent = MockAgent.new(run.db, Worker.get(run.db, run.db.new_worker(f"{worker}_sandbox", "mock")), run.unit())
    ticks = {bucket: bucket == "none_all_good" for bucket in BUCKETS}
    record = Conversation(
        dialog=[
            Utterance(agent_idx=0, text="I like to walk in the hills.", id="Speaker 1", timestamp=1_790_000_000.0),
            Utterance(agent_idx=1, text="Me too.", id="Speaker 2", problem_data=ticks, final_rating="4"),
        ],
        workers=[worker],
        hit_ids=["1"],
        assignment_ids=["1"],
        task_description=TaskDescription(model_nickname="m"),
        status=Completion.COMPLETE,
    ).to_dict()
    agent.state.record_world_data({"custom_data": record})
    agent.update_status("completed")
    day = walk.copy / "chat_data/2026_11_20"
    day.mkdir(parents=True)
    (day / "20261120_120000_1_sandbox.json").write_text(json.dumps(record), encoding="utf-8")
    try:
        yield run
    finally:
        run.db.shutdown()


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of one of the analysis' tables."""
    (file,) = folder.glob(f"{name}_*.csv")
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def has_results(walk: Walk, folder: str, conversations: int, models: int) -> None:
    """The analysis has counted so many, and written its report."""
    place = walk.copy / folder
    assert len(list(place.glob("report_*.html"))) == 1
    assert len({row["model_nickname"] for row in rows_of(place, "results")}) == models
    assert len({row["hit_id"] for row in rows_of(place, "results")}) == conversations


# --- the pages ---


@walks("README.md")
def test_the_readme(walk: Walk, tiny_chat_model: Path) -> None:
    walk.opens("make run", code=-signal.SIGINT)  # make hears Ctrl-C as well
    assert "A run would start." in walk.run("make doctor")
    walk.run("source .venv/bin/activate")
    assert "my_study/design.yaml" in walk.run("python scripts/new_study.py my_study --flow --design")
    walk.has_chat_model("demo/smollm2", tiny_chat_model)  # whose folder the study's models name
    with walk.runs("python scripts/preview.py --config my_study") as preview:
        address = preview.hears(r"Preview: (http\S+)")
        assert '<div id="root">' in fetch(address)
        preview.hears("Ctrl-C ends it")
        opened = walk.home / "opened"
        wait_until(
            lambda: opened.exists() and opened.read_text(encoding="utf-8") == f"{address}\n", lambda: preview.said
        )
        preview.stop(0)
    with walk.runs("python run.py conf=my_study") as run:
        run.hears("The task is up")
        assert "10  complete" in walk.run("python scripts/simulate_workers.py --workers 5")
        said = run.ends()
    assert "10 of 10 conversations are collected" in said
    saved = records(walk, "my_study/conversations")
    assert len(saved) == 10
    of_workers: dict[str, list[str]] = {worker: [] for record in saved for worker in record["workers"]}
    for record in saved:
        of_workers[record["workers"][0]].append(record["conditions"]["model"])
        assert record["answers"]
    assert [sorted(models) for models in of_workers.values()] == [["curt", "warm"]] * 5, "each talks with both"
    walk.run("python analysis/compile_results.py --conf my_study")
    has_results(walk, "my_study/results", 10, 2)
    folder = walk.copy / "my_study/results"
    assert {row["by"] for row in rows_of(folder, "splits")} == {"age_band"}
    assert {row["kind"] for row in rows_of(folder, "effects")} == {"within"}
    assert "my_models/models.yaml" in walk.run("python scripts/new_study.py my_models --endpoint")
    models = walk.copy / "my_models/models.yaml"
    with serving() as endpoint:
        endpoint.default = reply("Hello, how are you?")
        settings = models.read_text(encoding="utf-8").replace("http://localhost:11434/v1", endpoint.url)
        models.write_text(settings, encoding="utf-8")
        walk.opens("python run.py conf=my_models")
        assert endpoint.requests
    for nickname in ("warm", "curt"):  # "put each model into a folder"
        (walk.copy / "my_study/models" / nickname / "model.opt").write_text(
            '{"model": "fixed_response"}', encoding="utf-8"
        )
    assert "answers 'Hi!' with" in walk.run('make doctor ARGS="--load-models conf=my_study"')
    assert "10 conversations, 10 rows" in walk.run("python scripts/export.py")


@walks("CONTRIBUTING.md")
def test_contributing(walk: Walk) -> None:
    with walk.runs(".venv/bin/python scripts/preview.py --config example") as preview:
        assert '<div id="root">' in fetch(preview.hears(r"Preview: (http\S+)"))
        preview.stop(0)
    shutil.rmtree(walk.copy / "frontend/dist")
    with walk.runs("cd frontend && npm run dev") as served:
        assert "scenario=midway" in fetch(served.hears(rf"http://127\.0\.0\.1:{walk.port}/scenarios"))
        served.stop(-signal.SIGINT)
    assert (walk.copy / "frontend/dist/index.html").is_file()
    (walk.copy / "docs/configuration.md").unlink()
    walk.run("python scripts/write_reference.py")
    reference = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert (walk.copy / "docs/configuration.md").read_text(encoding="utf-8") == reference


@walks("frontend/README.md")
def test_the_pages_own_readme(walk: Walk, tmp_path: Path) -> None:
    with walk.runs("npm run dev:dashboard", cwd=walk.copy / "frontend") as served:
        assert "<title>Dashboard</title>" in fetch(served.hears(r"(http\S+/)login\?token=pay"))
        served.stop(-signal.SIGINT)
    with walk.runs("npm run dev", cwd=walk.copy / "frontend") as served:
        fetch(served.hears(rf"http://127\.0\.0\.1:{walk.port}/scenarios"))
        served.stop(-signal.SIGINT)
    said = walk.run("../.venv/bin/python dev/look.py", cwd=walk.copy / "frontend", FOLDER=str(tmp_path / "screens"))
    assert said.endswith("\n0 findings\n")
    assert len(list((tmp_path / "screens").glob("midway-*.png"))) == 6


@walks("docs/analysis.md")
def test_analysis(walk: Walk) -> None:
    counted = "1 conversations found, 1 counted, 0 left out."
    with collected(walk, "my_task_sandbox"):
        assert counted in walk.run("python analysis/compile_results.py --results-folders")
        has_results(walk, "results", 1, 1)
        shutil.rmtree(walk.copy / "results")
        assert counted in walk.run("python analysis/compile_results.py --task-name")
        has_results(walk, "results", 1, 1)
    assert "--results-folders" in walk.run("python -m model_chat.analysis.compile_results")
    (example,) = re.findall(r"```yaml\n(workers:.*?)```", (walk.copy / "docs/analysis.md").read_text(), flags=re.DOTALL)
    # The spreads that the example takes from a pilot are given here.
    known = re.sub(r"pilot:.*", "", example).replace("messages: 6}", "messages: 6, sd_worker: 0.1}")
    (walk.copy / "design.yaml").write_text(known)
    assert "two-sided tests at 0.05" in walk.run("python analysis/compile_results.py --plan design.yaml")
    assert re.search(r"^ +files +20 ", walk.run("python benchmarks/compile_results.py"), flags=re.MULTILINE)


@walks("docs/comparisons.md")
def test_comparisons(walk: Walk) -> None:
    for nickname in "abc":
        make_fixed_model(walk.copy / "models/mine" / nickname, f"Reply of {nickname}.")
    walk.opens("python run.py mephisto.blueprint.comparison=per_turn")
    walk.opens("python run.py mephisto.blueprint.comparison=paired")


@walks("docs/configuration.md")
def test_configuration(walk: Walk) -> None:
    assert "conversations_needed_string" in walk.run("python run.py --help")
    assert "\n    num_turns: 6" in walk.run("python run.py -c job")
    walk.run("cp conf/example.yaml conf/my_study.yaml")
    study = walk.copy / "conf/my_study.yaml"
    study.write_text(
        study.read_text(encoding="utf-8").replace("task_name: model_chat", "task_name: mine"), encoding="utf-8"
    )
    walk.opens("python run.py conf=my_study mephisto.blueprint.num_turns=4")
    assert "mine_local" in (walk.home / ".mephisto/data/database.db").read_bytes().decode(errors="ignore")


@walks("docs/data-protection.md")
def test_data_protection(walk: Walk) -> None:
    brackets = "[--dry-run] [--delete]"
    with collected(walk, "study_local", worker="A1B2C3") as run:
        walk.run("python scripts/manage_workers.py forget", WORKER="A1B2C3", **{brackets: "--dry-run"})
        assert find_worker(run.db, "mock", "A1B2C3") is not None
        (state,) = (walk.home / ".mephisto/data/data/runs").rglob("state.json")
        assert "A1B2C3" in state.read_text(encoding="utf-8")
        walk.run("python scripts/manage_workers.py forget", WORKER="A1B2C3", **{brackets: "--delete"})
        assert not state.exists() or "A1B2C3" not in state.read_text(encoding="utf-8")


@walks("docs/installing.md")
def test_installing(walk: Walk, tiny_chat_model: Path) -> None:
    walk.has_chat_model("demo/smollm2", tiny_chat_model)
    assert walk.run("make setup") == "", "all is there"
    walk.run(".venv/bin/python -m pip wheel")
    walk.run("python3 -m venv ~/model-chat")
    environment = walk.home / "model-chat"
    del walk.environment["PYTHONPATH"]
    walk.environment |= {"VIRTUAL_ENV": str(environment), "PATH": f"{environment}/bin:{walk.environment['PATH']}"}
    walk.run("pip install --no-deps dist/model_chat-0.1.0-py3-none-any.whl")
    places = next((environment / "lib").glob("python*/site-packages"))
    installed = places / "model_chat"
    # What 'python -m model_chat.scripts.setup_env' installs from the network is there already; not so this repository's own
    # editable installation, whose finder works in its own folder alone.
    (places / "locked.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    (installed / "router/node_modules").symlink_to(ROUTER_PACKAGES, target_is_directory=True)
    before = files_below(installed)
    walk.run("mkdir -p ~/studies && cd ~/studies")
    studies = walk.home / "studies"
    walk.has_model("demo/blender_tiny", {"model": "fixed_response"})
    shutil.copytree(walk.copy / "models", studies / "models")
    shutil.rmtree(walk.copy)  # nothing is needed of it any more
    said = walk.run("python -m model_chat.scripts.make_demo_models", cwd=studies)
    assert said.count(f"already there ({studies}/models/") == 2
    walk.run("python -m model_chat.scripts.new_study my_study", cwd=studies)
    walk.opens("python -m model_chat.run conf=my_study", cwd=studies)
    said = walk.run("python -m model_chat.run", cwd=studies)
    assert f"task_dir={installed}" in said
    assert f"work_dir={studies}" in said
    assert "num_conversations" in walk.run("python -m model_chat.run_image_chat", cwd=studies)
    with walk.types(
        "python -m model_chat.scripts.make_image_demo --help", studies
    ) as asked:  # "every command of the others"
        assert f"default: {studies}/models" in asked.ends()
    assert "--results-folders" in walk.run("python -m model_chat.analysis.compile_results", cwd=studies)
    assert files_below(installed) == before, "data are no part of an installation"


def files_below(folder: Path) -> set[Path]:
    """All but what Python compiles."""
    return {file for file in folder.rglob("*") if "__pycache__" not in file.parts}


@walks("docs/exports.md")
def test_exports(walk: Walk) -> None:
    with collected(walk, "my_task_sandbox"):
        assert "1 conversations, 1 rows: export/openai.jsonl" in walk.run("python scripts/export.py --results-folders")
        said = walk.run("python scripts/export.py --task-name")
        assert "1 conversations, 1 rows: published/data/train-00000-of-00001.parquet" in said
        assert (walk.home / ".config/model-chat/export_salt").is_file()
        assert "1 rows" in walk.run(
            "python scripts/export.py --results-folders ./chat_data --output ./export --format trl"
        )
    assert "--only-consented" in walk.run("python scripts/export.py --help")


@walks("docs/image-chat.md")
def test_image_chat(walk: Walk) -> None:
    # In place of a training of minutes; docs/image-stack.md has the command for that, which is typed there.
    shutil.copy(ROOT / "tests/image_agents.py", walk.copy / "looking.py")
    for nickname in ("demo/shapes_a", "demo/shapes_b"):
        walk.has_model(nickname, {"model": "looking:LookingAgent", "image_mode": "raw"})
    images = walk.copy / "data/image_contexts.parquet"
    walk.opens("make image", code=-signal.SIGINT)
    images.unlink()
    assert walk.run("python scripts/make_demo_models.py --image").count("already there") == 2
    walk.run("python scripts/save_image_contexts.py")
    assert images.is_file()
    study = (walk.copy / "conf/example_image_chat.yaml").read_text(encoding="utf-8")
    study = study.replace("task_name: model_image_chat", "task_name: mine").replace("data/image_stack", "my_stack")
    (walk.copy / "conf/my_study.yaml").write_text(study, encoding="utf-8")
    walk.opens("python run_image_chat.py conf=my_study")
    assert (walk.copy / "my_stack/stack.json").is_file()


@walks("docs/image-stack.md")
def test_image_stack(walk: Walk) -> None:
    assert "durable" in walk.run("python benchmarks/image_stack.py")
    walk.run("python scripts/make_image_demo.py")
    assert "4 held-out pictures" in walk.run("python benchmarks/image_demo_accuracy.py")


@walks("docs/models.md")
def test_models(walk: Walk, tiny_chat_model: Path) -> None:
    walk.has_chat_model("demo/smollm2", tiny_chat_model)
    assert "replies of 2 tokens" in walk.run("python benchmarks/reply_time.py")
    assert "my_study/models.yaml" in walk.run("python scripts/new_study.py my_study --endpoint")


@walks("docs/agreement.md")
def test_agreement(walk: Walk) -> None:
    (logs,) = re.findall(r"```json\n(.*?)```", (ROOT / walk.page).read_text(encoding="utf-8"), flags=re.DOTALL)
    (walk.copy / "logs.jsonl").write_text(logs, encoding="utf-8")
    with walk.runs("python scripts/preview.py --config example_annotation") as preview:
        preview.hears(r"Preview: http\S+")
        preview.stop(0)
    with walk.runs("python run.py conf=example_annotation") as task:
        task.hears("The task is up")
        assert "9  complete" in walk.run("python scripts/simulate_workers.py --workers 3")
        assert "9 of 9 conversations are collected" in task.ends()
    (walk.copy / "data/conversations").mkdir(parents=True, exist_ok=True)
    said = walk.run("python analysis/compile_results.py")
    assert "9 of 9 records are annotations of 3 finished conversations" in re.sub(r"\s+", " ", said)
    assert {row["items"] for row in rows_of(walk.copy / "results", "agreement") if row["kind"] == "bucket"} == {"4"}
    assert len(rows_of(walk.copy / "results", "majority_labels")) == 4 * len(BUCKETS)


@walks("docs/judges.md")
def test_judges(walk: Walk) -> None:
    boxes = {box: {"name": box.title()} for box in ("rude", "odd", "none_all_good")}
    ticks = {box: box == "none_all_good" for box in boxes}
    record = Conversation(
        dialog=[
            Utterance(agent_idx=0, text="I like to walk in the hills.", id="Speaker 1"),
            Utterance(agent_idx=1, text="Me too.", id="Speaker 2", problem_data=ticks, final_rating="4"),
        ],
        workers=["WORKER"],
        hit_ids=["1"],
        assignment_ids=["1"],
        task_description=TaskDescription(
            model_nickname="m",
            annotations_config=json.dumps({"config": boxes}),
            final_rating_question="How good?",
        ),
    ).to_dict()
    day = walk.copy / "my_study/conversations/2026_11_20"
    day.mkdir(parents=True)
    (day / "20261120_120000_1_sandbox.json").write_text(json.dumps(record), encoding="utf-8")
    (settings,) = re.findall(r"```yaml\n(.*?)```", (ROOT / walk.page).read_text(encoding="utf-8"), flags=re.DOTALL)
    walk.environment["OPENAI_API_KEY"] = "sk-0123456789"
    with serving() as endpoint:
        of_reply, of_chat = reply(json.dumps(ticks)), reply(json.dumps({"ratings": {"1": 5}}))

        async def judges(exchange: Exchange) -> None:
            asked = exchange.body["messages"][1]["content"]
            await (of_chat if "Judge the whole chat" in asked else of_reply)(exchange)

        endpoint.default = judges
        here = re.sub("base_url: .*", f"base_url: {endpoint.url}", settings)
        (walk.copy / "judges.yaml").write_text(here, encoding="utf-8")
        assert "To ask: 2 prompts" in walk.run("python scripts/judge.py --estimate")
        assert endpoint.requests == []
        said = walk.run("python scripts/judge.py --max-spend-usd 5")
        assert "1 replies and 1 conversations judged, 0 without a usable answer, 0 not asked about" in said
    assert "Judges beside people" in walk.run("python analysis/compile_results.py")
    raw = {row["judged"]: row["raw"] for row in rows_of(walk.copy / "results", "judge_agreement")}
    assert (raw["odd"], raw["final_rating"]) == ("1", "0")


@walks("docs/moving-from-the-original.md")
def test_moving_from_the_original(walk: Walk) -> None:
    shutil.copy(walk.copy / "conf/example.yaml", walk.copy / "conf/my_study.yaml")
    assert "A run would start." in walk.run("make doctor")


@walks("docs/onboarding.md")
def test_onboarding(walk: Walk) -> None:
    with collected(walk, "my_study_local") as study:
        worker = find_worker(study.db, "mock", "WORKER")
        study.db.make_qualification(PASSED)
        worker.grant_qualification(PASSED, 0)
        assert "onboarding: 0 started" in walk.opens("python run.py mephisto.blueprint.onboarding_qualification")
        with walk.runs("python scripts/preview.py --config example --onboarding") as preview:
            assert preview.hears(r"Preview: (http\S+)").endswith("assignment_id=onboarding")
            preview.stop(0)
        write_example(walk, "criterion", "my_onboarding.py")
        with walk.runs("python run.py mephisto.blueprint.world_file=my_onboarding.py") as run:
            run.hears("The task is up")
            walk.run("python scripts/manage_workers.py reset-onboarding")
            assert worker.get_granted_qualification(PASSED) is None
            assert re.search(r"│ WORKER +│ +1 │", walk.run("python scripts/manage_workers.py list"))
            said = walk.run("python scripts/simulate_workers.py --workers 5 --failing 2")
            assert "3  complete" in said
            assert "2  onboarding failed" in said
            assert "onboarding: 5 started, 3 passed, 2 failed, 0 left" in run.stop()


@walks("docs/paying-workers.md")
def test_paying_workers(walk: Walk) -> None:
    assert walk.run("python scripts/manage_workers.py cost").startswith("Cost: ")


@walks("docs/dashboard.md")
def test_dashboard(walk: Walk) -> None:
    for name in ("my_study", "my_pilot"):
        example = (walk.copy / "conf/example.yaml").read_text(encoding="utf-8")
        (walk.copy / f"conf/{name}.yaml").write_text(
            example.replace("task_name: model_chat", f"task_name: {name}"), encoding="utf-8"
        )

    def is_up(link: str) -> None:
        assert fetch(f"{link.partition('login?')[0]}healthz") == "ok\n"

    with walk.runs("python run.py conf=my_study") as run:
        is_up(run.hears(r"Dashboard: +(http\S+)"))
        run.stop()
    with walk.runs("python scripts/dashboard.py --config my_study --config my_pilot") as dashboard:
        is_up(dashboard.hears(r"Dashboard: (http\S+)"))
        dashboard.stop(0)


@walks("docs/study-flow.md")
def test_study_flow(walk: Walk, tiny_chat_model: Path) -> None:
    assert "my_survey/texts/study_flow.yaml" in walk.run("python scripts/new_study.py my_survey --flow")
    walk.has_chat_model("demo/smollm2", tiny_chat_model)
    with walk.runs("python scripts/preview.py --config my_survey") as preview:
        assert '<div id="root">' in fetch(preview.hears(r"Preview: (http\S+)"))
        preview.stop(0)
    with walk.runs("python run.py conf=my_survey") as run:
        run.hears("The task is up")
        said = walk.run("python scripts/simulate_workers.py --workers 6 --declining 1 --invalid-answers")
        assert "5  complete" in said
        assert "1  declined" in said
        assert "1 declined to take part" in run.stop()
    assert len(list(walk.copy.glob("my_survey/conversations/*/*.json"))) == 5
    walk.run("python analysis/compile_results.py --conf my_survey")
    folder = walk.copy / "my_survey/results"
    assert {row["item"] for row in rows_of(folder, "items")} >= {"age_band", "natural", "impression", "warmth"}
    assert {row["by"] for row in rows_of(folder, "splits")} == {"age_band"}


@walks("docs/study-design.md")
def test_study_design(walk: Walk, tiny_chat_model: Path) -> None:
    assert "my_design/design.yaml" in walk.run("python scripts/new_study.py my_design --design --flow")
    assert (walk.copy / "conf/my_design.yaml").read_text(encoding="utf-8").count("my_design/design.yaml") == 1
    walk.has_chat_model("demo/smollm2", tiny_chat_model)  # whose folder the study's models name
    (design,) = re.findall(
        r"<!-- example: worked design -->\n```yaml\n(.*?)```", (ROOT / walk.page).read_text(encoding="utf-8"), re.DOTALL
    )
    (walk.copy / "my_design/design.yaml").write_text(design, encoding="utf-8")
    assert "(4 cells of the design, 2 each)" in walk.run('make doctor ARGS="conf=my_design"')
    with walk.runs("python run.py conf=my_design") as run:
        run.hears("The task is up")
        assert "8  complete" in walk.run("python scripts/simulate_workers.py --workers 4 --conversations 2")
        run.ends()
    walk.run("python analysis/compile_results.py --conf my_design")
    folder = walk.copy / "my_design/results"
    cells = [row for row in rows_of(folder, "conditions") if row["metric"] == "item warmth"]
    assert {(row["factor_model"], row["factor_num_turns"], row["conversations"]) for row in cells} == {
        (model, length, "2") for model in ("warm", "curt") for length in ("short", "long")
    }
    effects = [row for row in rows_of(folder, "effects") if row["metric"] == "item warmth"]
    assert {(row["factor"], row["kind"]) for row in effects} == {("model", "within"), ("num_turns", "between")}
    assert [row for row in rows_of(folder, "interactions") if row["metric"] == "item warmth"] != []


@walks("docs/languages.md")
def test_languages(walk: Walk) -> None:
    walk.run("python scripts/new_study.py my_survey --flow")
    with walk.runs("python scripts/preview.py --config my_survey") as preview:
        page = fetch(preview.hears(r"Preview: (http\S+)"))
        assert '<html lang="de" dir="ltr">' in page and "Wird geladen…" in page
        preview.stop(0)
    assert "translate the texts" in walk.run("python scripts/texts.py template nl texts_nl.json")
    assert "✓ texts_nl.json: in order." in walk.run("python scripts/texts.py check texts_nl.json")
    assert "✓ ar: in order." in walk.run("python scripts/texts.py check")
    (example,) = re.findall(
        r"<!-- example: texts -->\n```json\n(.*?)```", (ROOT / "docs/languages.md").read_text(), re.DOTALL
    )
    (walk.copy / "own.json").write_text(example, encoding="utf-8")
    texts = load_texts("de", str(walk.copy / "own.json"))
    assert texts.told(worker_text("messages.empty")) == "Da steht noch nichts."


@walks("docs/performance.md")
def test_performance(walk: Walk, tiny_chat_model: Path) -> None:
    walk.has_parlai_model("demo/blender_tiny")
    walk.has_chat_model("demo/smollm2", tiny_chat_model)
    said = walk.run("python benchmarks/many_workers.py --workers 8,64,128")
    assert "2 turns, onboarding" in said
    assert "2 workers: " not in said, "which says that some did not get to the end"
    assert "random/blender_90m" in walk.run("python benchmarks/batching.py")
    assert "2 of 2 replies of a mixed batch" in walk.run("python benchmarks/shared_weights.py")
    assert "N* = 2.0" in walk.run("python benchmarks/capacity.py")
    assert "turn_p95_s: " in walk.run("python benchmarks/dashboards.py")
    assert "2 conversations: " in walk.run("python benchmarks/endpoints.py")
    assert "first part" in walk.run("python benchmarks/streaming.py")


@walks("docs/troubleshooting.md")
def test_troubleshooting(walk: Walk) -> None:
    shutil.copy(walk.copy / "conf/example.yaml", walk.copy / "conf/my_study.yaml")
    assert "answers 'Hi!' with" in walk.run('make doctor ARGS="--load-models conf=my_study"')


@walks("docs/worlds.md")
def test_worlds(walk: Walk) -> None:
    write_example(walk, "world", "my_world.py")
    with walk.runs("python run.py mephisto.blueprint.world_file=my_world.py") as run:
        run.hears("The task is up")
        assert "10  complete" in walk.run("python scripts/simulate_workers.py --onboarding-file")
        run.ends()
    contexts = [record["additional_context"] for record in records(walk, "data/conversations")]
    assert len(contexts) == 10
    assert all(re.fullmatch(r"\d+ words", context) for context in contexts)


def records(walk: Walk, folder: str) -> list[dict[str, Any]]:
    """The conversations that were saved below a folder."""
    files = (walk.copy / folder).glob("*/*.json")
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


# --- and there is no other ---


def typed() -> set[str]:
    """The lines that the tests above type, read from their source: a test gives the beginning of a line."""
    found = set()
    for test in ast.parse(Path(__file__).read_text(encoding="utf-8")).body:
        if not isinstance(test, ast.FunctionDef):
            continue
        for mark in test.decorator_list:
            if not (isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "walks"):
                continue
            page = ast.literal_eval(mark.args[0])
            lines, at = [command.line for command in commands_of(ROOT / page)], 0
            calls = [
                node for node in ast.walk(test) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            ]
            for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
                if isinstance(call.func, ast.Attribute) and call.func.attr in ("run", "runs", "opens") and call.args:
                    at = find(page, lines, ast.literal_eval(call.args[0]), at)
                    found.add(lines[at])
    return found


def test_every_command_is_typed_or_run_elsewhere_or_says_what_it_needs() -> None:
    there = {command.line for command in COMMANDS if command.needs is None}
    assert len(there) > 70
    known = typed() | RUN_ELSEWHERE.keys()
    assert sorted(str(command) for command in COMMANDS if command.needs is None and command.line not in known) == []
    assert sorted(RUN_ELSEWHERE.keys() - there) == [], "no page has it any more"
    assert sorted(RUN_ELSEWHERE.keys() & typed()) == []


def test_what_a_command_needs_is_something_that_no_test_has() -> None:
    assert {command.needs for command in COMMANDS} - {None} <= NEEDS
    assert sum(command.needs is not None for command in COMMANDS) < len(COMMANDS) / 3


@functools.cache
def what_make_runs(*targets: str) -> str:
    """The commands of these targets."""
    return subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("line", RUN_ELSEWHERE)
def test_what_is_run_elsewhere_is_run_there(line: str) -> None:
    file, there, _ = RUN_ELSEWHERE[line]
    text = (ROOT / file).read_text(encoding="utf-8")
    if file == MAKEFILE:  # in what CI makes, or a test above
        of_ci = re.findall(r"^make (.*)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), flags=re.MULTILINE)
        made = {word for line in of_ci for word in line.split() if re.fullmatch(r"[a-z][a-z-]*", word)}
        assert {"test", "lint-python", "lint-page", "test-page"} <= made
        made |= {line.removeprefix("make ") for line in typed() if re.fullmatch(r"make \w+", line)}
        text = what_make_runs(*sorted(made))
    assert there in text
