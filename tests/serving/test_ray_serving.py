"""Models on a real Ray cluster of two nodes on this machine: hops, deaths, faults, and what is left behind."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from model_chat.errors import ConfigurationError
from model_chat.serving.catalogue import ModelSource
from model_chat.serving.loading import LoadedModel
from model_chat.serving.model import ServedModel, StoppedError
from model_chat.serving.opt_export import exportable_opt
from model_chat.serving.pool import ModelFailureError, ModelPool
from model_chat.serving.ray_options import RayOptions
from model_chat.tests import preloaded
from model_chat.tests.e2e.running_task import ROOT, wait_until

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'model-chat[ray]', then run again")
pytestmark = pytest.mark.slow

AGENTS = "model_chat.tests.parlai_agents"
TIME_LIMIT = 90.0
WORDS = [f"word{number}" for number in range(8)]

# What needs torch is imported where it is used: all processes that run long tests import this file, and one runs it.


def make_model(folder: Path, nickname: str, agent: str, **opt: Any) -> ModelSource:
    place = folder / nickname
    place.mkdir(parents=True)
    (place / "model.opt").write_text(json.dumps({"model": agent, **opt}), encoding="utf-8")
    return ModelSource(nickname, folder=place)


def make_generator(folder: Path) -> ModelSource:
    """A ParlAI generator on disk whose replies hang on all that it has heard."""
    from parlai.core.dict import DictionaryAgent

    from model_chat.tests.serving.test_batching import generator, parser_opt

    place = folder / "generator"
    place.mkdir(parents=True)
    dictionary = DictionaryAgent(parser_opt(place, "greedy", with_dict=False))
    for word in [*WORDS, "my", "secret", "is", "and", "what", "?"]:
        dictionary.add_to_dict([word])
    dictionary.save(str(place / "model.dict"))
    generator(place, "greedy").agent.save(str(place / "model"))
    return ModelSource("generator", folder=place)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes, the second of which has what the first lacks: "processors" for half of the copies."""
    from model_chat.serving.ray_cluster import _OWN, _QUIET

    before = dict(os.environ)
    os.environ.update({**_QUIET, **_OWN, "RAY_AUTH_MODE": "disabled"})
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 80 << 20}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.add_node(**node)
    yield made
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the copies have, so that sums come out the same."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def options(cluster: Any) -> RayOptions:
    """Two copies of each model, one for each node."""
    return RayOptions(cluster.address, 2, 0.25, 0.0, 300, TIME_LIMIT, 4)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSource]:
    folder = tmp_path_factory.mktemp("models")
    made = [
        make_generator(folder),
        make_model(folder, "witness/one", f"{AGENTS}:WitnessAgent", api_key="s3cret", dict_lower=False),
    ]
    return {source.nickname: source for source in made}


@pytest.fixture(scope="module")
def pool(options: RayOptions, sources: dict[str, ModelSource]) -> Iterator[ModelPool]:
    from model_chat.serving import ray_serving

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_serving, "CHECK_SECONDS", 1)
        on_ray = ray_serving.ModelsOnRay(sources, True, "flag", options)
    pool = ModelPool(on_ray.models, options.at_once, options.time_limit, close=on_ray.close)
    yield pool
    pool.shutdown()
    assert not ray.is_initialized()


def heard(text: str) -> Any:
    """What a person says."""
    from parlai.core.message import Message

    return Message({"id": "Speaker 1", "text": text, "episode_done": False})


def in_thread(call: Callable[[], Any]) -> Future[Any]:
    """Run a conversation's part in a thread of its own."""
    return ThreadPoolExecutor(1).submit(call)


def ask(pool: ModelPool, nickname: str, clone: Any, text: str) -> tuple[int, str]:
    """The process that replied, and what it said."""
    process, _, said = pool.reply(nickname, clone, [heard(text)])["text"].partition(": ")
    return int(process), said


def wait_for_both_copies(pool: ModelPool) -> None:
    """Wait until Ray has put a new copy into the place of one that a test has killed."""
    seen: set[int] = set()

    def both_reply() -> bool:
        seen.add(ask(pool, "witness/one", pool.model("witness/one").clone(), "hi")[0])
        return len([process for process in seen if Path(f"/proc/{process}").exists()]) == 2

    wait_until(both_reply)


def serve_applications() -> set[str]:
    """The names of what Serve runs."""
    from ray import serve

    return set(serve.status().applications)


def node_of(pid: int) -> str:
    """The raylet that a replica's process belongs to."""
    import psutil

    return str(psutil.Process(pid).ppid())


@pytest.mark.usefixtures("one_thread")
def test_a_generator_says_on_two_nodes_what_it_says_in_here(pool: ModelPool, sources: dict[str, ModelSource]) -> None:
    from model_chat.serving.loading import load_model
    from model_chat.tests.serving.test_batching import dialogue

    here: ServedModel = load_model(sources["generator"], True)
    there = pool.model("generator")
    assert there.opt == exportable_opt(here.opt)
    assert (there.model_file, there.takes_batches, there.runs_at_once) == (here.model_file, True, 2)
    local = ModelPool([LoadedModel("m", here.agent, None)], 1, 60)  # type: ignore[attr-defined]  # it is in here
    expected = [dialogue(local, local.model("m"), word) for word in WORDS]  # type: ignore[arg-type]  # likewise

    def remotely(word: str) -> list[str]:
        clone = there.clone()
        said = [f"my secret is {word}", "and what is my secret ?", f"is my secret {word} ?"]
        return [pool.reply("generator", clone, [heard(text)])["text"] for text in said]

    assert [remotely(word) for word in WORDS[:4]] == expected[:4]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(remotely, WORDS)) == expected, "in batches, too"
    local.shutdown()


def test_turns_hop_between_nodes_and_every_copy_knows_the_whole_conversation(pool: ModelPool) -> None:
    clone = pool.model("witness/one").clone()
    processes = set()
    for turn in range(12):
        process, said = ask(pool, "witness/one", clone, f"turn {turn}")
        processes.add(process)
        assert said.startswith(f"{2 * turn + 1} "), "each turn before it, and its reply"
    assert len(processes) == 2
    assert len({node_of(process) for process in processes}) == 2


def test_a_copy_that_dies_in_mid_reply_is_replaced_and_the_conversation_goes_on(
    pool: ModelPool, tmp_path: Path
) -> None:
    """Both conversations that it was replying to, in one batch or not, and with the same history."""
    from model_chat.bot_agent import BotAgent

    bot = BotAgent(pool, "witness/one")
    bot.observe_persona(["your persona: I am a cat."])
    bot.observe({"id": "Speaker 1", "text": "one"})
    assert "2 your persona: I am a cat. | one" in bot.act().text
    file = tmp_path / "wait"
    bot.observe({"id": "Speaker 1", "text": f"!wait {file}"})
    reply = in_thread(lambda: bot.act().text)
    wait_until(lambda: file.exists() and bool(file.read_text(encoding="utf-8")))
    victim = int(file.read_text(encoding="utf-8"))
    os.kill(victim, signal.SIGSTOP)  # whatever it has begun to say is not said
    file.unlink()
    os.kill(victim, signal.SIGKILL)
    wait_until(file.exists)  # it is asked for again
    file.unlink()
    said = reply.result(60)
    process = int(said.partition(":")[0])
    assert process != victim
    assert "4 your persona: I am a cat. | one | I: 2 your persona: I am a cat. | one | !wait" in said
    bot.observe({"id": "Speaker 1", "text": "three"})
    assert ": 6 " in bot.act().text


def test_a_turn_that_kills_every_copy_fails_alone_after_a_few(pool: ModelPool, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_chat.serving import ray_serving

    monkeypatch.setattr(ray_serving, "ATTEMPTS", 2)  # as many as there are copies: none has to be made anew meanwhile
    wait_for_both_copies(pool)
    good, bad = pool.model("witness/one").clone(), pool.model("witness/one").clone()
    ask(pool, "witness/one", good, "before")
    failing = in_thread(lambda: pool.reply("witness/one", bad, [heard("!die")]))
    with pytest.raises(
        ModelFailureError, match="witness/one was lost with its process or machine 2 times over one reply"
    ):
        failing.result(TIME_LIMIT)
    assert ask(pool, "witness/one", good, "after")[1] == "3 before | I: 1 before | after"


def test_what_a_model_raises_is_told_as_if_it_were_in_here(pool: ModelPool) -> None:
    clone = pool.model("witness/one").clone()
    with pytest.raises(ModelFailureError) as failure:
        pool.reply("witness/one", clone, [heard("!raise")])
    assert str(failure.value) == "witness/one raised RuntimeError('the weights are gone')."
    assert ask(pool, "witness/one", clone, "and now?")[1] == "1 and now?"


def test_a_conversation_with_an_agent_that_remembers_more_stays_with_its_copy(
    pool: ModelPool, options: RayOptions
) -> None:
    from model_chat.serving.ray_serving import RayModel

    served = pool.model("witness/one")
    assert isinstance(served, RayModel)
    wait_for_both_copies(pool)
    description = dataclasses.replace(served._description, takes_batches=False)
    model = RayModel("m", served._handle, description, options)
    alone = ModelPool([model], 1, TIME_LIMIT)
    clones = [model.clone() for _ in range(6)]
    homes = [ask(alone, "m", clone, "1")[0] for clone in clones]
    assert len(set(homes)) == 2
    known = served._handle._router._asyncio_router.request_router
    told = {clone.turn([]).conversation for clone in clones}
    # The copies tell Serve whom they know, and Serve tells the run.
    wait_until(lambda: told <= {each for copy in known.curr_replicas.values() for each in copy.multiplexed_model_ids})
    for turn in ("2", "3", "4"):
        assert [ask(alone, "m", clone, turn)[0] for clone in clones] == homes
    alone.shutdown()


def test_secrets_of_a_model_stay_where_it_is(pool: ModelPool) -> None:
    assert "api_key" not in pool.model("witness/one").opt
    assert "s3cret" not in str(pool.model("witness/one").opt)


def test_an_examination_is_made_where_the_model_is(pool: ModelPool) -> None:
    pool.model("witness/one").examine(examination, "fine")
    with pytest.raises(ConfigurationError) as caught:
        pool.model("witness/one").examine(examination, "wrong")
    assert caught.value.faults == ("witness/one: wrong.", "WitnessAgent: wrong, too.")


def examination(model: LoadedModel, subject: str) -> None:
    if subject != "fine":
        raise ConfigurationError(f"{model.nickname}: {subject}.", f"{type(model.agent).__name__}: {subject}, too.")


def test_a_model_that_can_not_be_loaded_is_told_before_the_launch(
    pool: ModelPool, options: RayOptions, tmp_path: Path
) -> None:
    from model_chat.serving.ray_serving import ModelsOnRay

    broken = {"broken": make_model(tmp_path, "broken", f"{AGENTS}:BrokenAgent")}
    with pytest.raises(ConfigurationError) as caught:
        ModelsOnRay(broken, True, "the flag", dataclasses.replace(options, replicas=1))
    (fault,) = caught.value.faults
    assert fault == (
        f"the flag: the model 'broken' can't be loaded from {tmp_path}/broken/model.opt: ValueError: the weights are of the "
        "wrong shape."
    )


def test_ctrl_c_while_models_load_ends_the_loading_and_leaves_nothing(
    pool: ModelPool, options: RayOptions, sources: dict[str, ModelSource]
) -> None:
    from model_chat.serving.ray_serving import ModelsOnRay

    before = serve_applications()
    with pytest.raises(StoppedError):
        ModelsOnRay(sources, True, "flag", options, stopped=lambda: True)
    assert serve_applications() == before


def test_what_no_machine_has_is_said_at_once(
    pool: ModelPool, options: RayOptions, sources: dict[str, ModelSource]
) -> None:
    from model_chat.serving.ray_serving import ModelsOnRay

    with pytest.raises(ConfigurationError, match=r"no machine of the Ray cluster has 0\.25 processors and 1 GPUs"):
        ModelsOnRay(sources, True, "flag", dataclasses.replace(options, gpus=1.0))


@pytest.mark.parametrize("listens", [True, False])
def test_an_address_without_a_cluster_is_said_after_a_bounded_wait(
    listens: bool, options: RayOptions, sources: dict[str, ModelSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_chat.serving import ray_cluster
    from model_chat.serving.ray_serving import ModelsOnRay

    monkeypatch.setattr(ray_cluster, "PROBE_SECONDS", 4)
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        if listens:
            door.listen()
        address = f"127.0.0.1:{door.getsockname()[1]}"
        with pytest.raises(ConfigurationError) as caught:
            ModelsOnRay(sources, True, "flag", dataclasses.replace(options, address=address))
    (fault,) = caught.value.faults
    said = (
        f"the Ray cluster at {address} can't be joined (no answer"
        if listens
        else f"there is no Ray cluster at {address}"
    )
    assert fault.startswith(f"mephisto.blueprint.ray_address: {said}")


def test_the_benchmark_compares_a_reply_here_with_one_on_the_cluster(
    pool: ModelPool, cluster: Any, sources: dict[str, ModelSource]
) -> None:
    folder = sources["generator"].folder
    assert folder is not None
    command = [sys.executable, "benchmarks/ray_overhead.py", "--rounds", "1", "--conversations", "1"]
    place = ["--address", cluster.address, "--base-model-folder", str(folder.parent), "--model", "generator"]
    done = preloaded.run([*command, *place], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "generator" in done.stdout
    assert len(serve_applications()) == 2, "its own models are gone, and this run's are there"


def test_a_run_that_is_killed_leaves_nothing_on_the_cluster(pool: ModelPool) -> None:
    """The copies notice that the run's own actor is gone, which ends with the run whatever ends that."""
    keepers = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True) if "keeper" in each["name"]]
    assert len(keepers) == 1, "those of the runs that came to nothing are gone"
    assert len(serve_applications()) == 2
    ray.kill(ray.get_actor(keepers[0], namespace="model-chat"))
    wait_until(lambda: not serve_applications())
