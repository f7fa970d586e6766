"""The commands of the pages about installing and running: typed in the page's order, by a shell, in a copy."""

from __future__ import annotations

import shutil
import signal
import sysconfig
from pathlib import Path

from model_chat.router.local_architect import ROUTER_PACKAGES
from model_chat.tests.docs.collected import has_results, records, rows_of
from model_chat.tests.docs.pages import ROOT
from model_chat.tests.docs.place import Walk, fetch, walks
from model_chat.tests.e2e.running_task import wait_until
from model_chat.tests.endpoint_server import reply, serving


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
    (walk.copy / "docs/configuration.md").unlink()
    walk.run("python scripts/write_reference.py")
    reference = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert (walk.copy / "docs/configuration.md").read_text(encoding="utf-8") == reference


@walks("frontend/README.md")
def test_the_pages_own_readme(walk: Walk, tmp_path: Path) -> None:
    with walk.runs("npm run dev:dashboard", cwd=walk.copy / "frontend") as served:
        assert "<title>Dashboard</title>" in fetch(served.hears(r"(http\S+/)login\?token=pay"))
        served.stop(-signal.SIGINT)
    shutil.rmtree(walk.copy / "frontend/dist")
    with walk.runs("npm run dev", cwd=walk.copy / "frontend") as served:
        assert "scenario=midway" in fetch(served.hears(rf"http://127\.0\.0\.1:{walk.port}/scenarios"))
        served.stop(-signal.SIGINT)
    assert (walk.copy / "frontend/dist/index.html").is_file()
    said = walk.run("../.venv/bin/python dev/look.py", cwd=walk.copy / "frontend", FOLDER=str(tmp_path / "screens"))
    assert said.endswith("\n0 findings\n")
    assert len(list((tmp_path / "screens").glob("midway-*.png"))) == 6


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


@walks("docs/installing.md")
def test_installing(walk: Walk) -> None:
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
    walk.has_fixed_models(studies / "my_study/models")
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


@walks("docs/image-stack.md")
def test_image_stack(walk: Walk) -> None:
    assert "durable" in walk.run("python benchmarks/image_stack.py")
    walk.run("python scripts/make_image_demo.py")
    assert "4 held-out pictures" in walk.run("python benchmarks/image_demo_accuracy.py")


@walks("docs/models.md")
def test_models(walk: Walk) -> None:
    assert "--tokens" in walk.run("python benchmarks/reply_time.py")
    assert "my_study/models.yaml" in walk.run("python scripts/new_study.py my_study --endpoint")


@walks("docs/performance.md")
def test_performance(walk: Walk, tiny_chat_model: Path) -> None:
    walk.has_parlai_model("demo/blender_tiny")
    walk.has_chat_model("demo/smollm2", tiny_chat_model)
    # capacity.py starts tasks and simulates workers as this one, dashboards.py and streaming.py do, which print their help.
    assert "--workers" in walk.run("python benchmarks/many_workers.py --workers 8,64,128")
    assert "random/blender_90m" in walk.run("python benchmarks/batching.py")
    assert "2 of 2 replies of a mixed batch" in walk.run("python benchmarks/shared_weights.py")
    assert "N* = 2.0" in walk.run("python benchmarks/capacity.py")
    assert "--dashboards" in walk.run("python benchmarks/dashboards.py")
    assert "2 conversations: " in walk.run("python benchmarks/endpoints.py")
    assert "--streams" in walk.run("python benchmarks/streaming.py")


@walks("docs/troubleshooting.md")
def test_troubleshooting(walk: Walk) -> None:
    shutil.copy(walk.copy / "conf/example.yaml", walk.copy / "conf/my_study.yaml")
    assert "answers 'Hi!' with" in walk.run('make doctor ARGS="--load-models conf=my_study"')
