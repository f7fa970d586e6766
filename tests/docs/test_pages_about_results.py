"""The commands of the pages about data and workers: typed in the page's order, by a shell, in a copy of the repository."""

from __future__ import annotations

import json
import re
import shutil

from model_chat.quality.blocks import find_worker
from model_chat.records.schema import Conversation, TaskDescription, Utterance
from model_chat.tests.docs.collected import BUCKETS, collected, has_results, rows_of
from model_chat.tests.docs.pages import ROOT
from model_chat.tests.docs.place import Walk, fetch, walks
from model_chat.tests.endpoint_server import Exchange, reply, serving


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


@walks("docs/agreement.md")
def test_agreement(walk: Walk) -> None:
    (logs,) = re.findall(r"```json\n(.*?)```", (ROOT / walk.page).read_text(encoding="utf-8"), flags=re.DOTALL)
    (walk.copy / "logs.jsonl").write_text(logs, encoding="utf-8")
    assert "my_study/logs.jsonl" in walk.run("python scripts/new_study.py my_study --kind annotation")
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
