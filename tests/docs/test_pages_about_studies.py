"""The commands of the pages about kinds of studies: typed in the page's order, by a shell, in a copy of the repository."""

from __future__ import annotations

import re
import shutil

from model_chat.configuration.text_files import load_texts
from model_chat.configuration.worker_texts import worker_text
from model_chat.quality.blocks import find_worker
from model_chat.tests.docs.collected import collected, records, rows_of
from model_chat.tests.docs.pages import ROOT
from model_chat.tests.docs.place import Walk, fetch, walks
from model_chat.tests.e2e.running_task import make_fixed_model
from model_chat.tests.mephisto_run import PASSED


def write_example(walk: Walk, marked: str, name: str) -> None:
    """Write the file that a page shows, as it tells to."""
    text = (ROOT / walk.page).read_text(encoding="utf-8")
    (example,) = re.findall(rf"<!-- example: {marked} -->\n```python\n(.*?)```", text, flags=re.DOTALL)
    (walk.copy / name).write_text(example, encoding="utf-8")


@walks("docs/comparisons.md")
def test_comparisons(walk: Walk) -> None:
    for nickname in "abc":
        make_fixed_model(walk.copy / "models/mine" / nickname, f"Reply of {nickname}.")
    assert "conf/my_study.yaml" in walk.run("python scripts/new_study.py my_study --kind comparison")
    walk.opens("python run.py mephisto.blueprint.comparison=per_turn")
    walk.opens("python run.py mephisto.blueprint.comparison=paired")


@walks("docs/image-chat.md")
def test_image_chat(walk: Walk) -> None:
    # In place of a training of minutes; docs/image-stack.md has the command for that, which is typed there.
    shutil.copy(ROOT / "tests/image_agents.py", walk.copy / "looking.py")
    for nickname in ("demo/shapes_a", "demo/shapes_b"):
        walk.has_model(nickname, {"model": "looking:LookingAgent", "image_mode": "raw"})
    assert walk.run("python scripts/make_demo_models.py --image").count("already there") == 2
    walk.run("python scripts/save_image_contexts.py")
    assert (walk.copy / "data/image_contexts.parquet").is_file()
    assert "conf/my_study.yaml" in walk.run("python scripts/new_study.py my_study --kind image")
    study = (walk.copy / "conf/example_image_chat.yaml").read_text(encoding="utf-8")
    study = study.replace("task_name: model_image_chat", "task_name: mine").replace("data/image_stack", "my_stack")
    (walk.copy / "conf/my_study.yaml").write_text(study, encoding="utf-8")
    walk.opens("python run_image_chat.py conf=my_study")
    assert (walk.copy / "my_stack/stack.json").is_file()


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


@walks("docs/study-flow.md")
def test_study_flow(walk: Walk) -> None:
    assert "my_survey/texts/study_flow.yaml" in walk.run("python scripts/new_study.py my_survey --flow")
    walk.has_fixed_models(walk.copy / "my_survey/models")
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
def test_study_design(walk: Walk) -> None:
    assert "my_design/design.yaml" in walk.run("python scripts/new_study.py my_design --design --flow")
    assert (walk.copy / "conf/my_design.yaml").read_text(encoding="utf-8").count("my_design/design.yaml") == 1
    walk.has_fixed_models(walk.copy / "my_design/models")
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
