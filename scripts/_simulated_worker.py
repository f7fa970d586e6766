"""One simulated worker: does over HTTP and WebSocket what the page does (docs/protocol.md), without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from typing import Any, Self, cast
from uuid import uuid4

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

from model_chat.router.public_address import parse_public_url
from model_chat.scripts._simulated_answers import invalid_answers, valid_answers
from model_chat.scripts._simulated_person import Behaviour, Outcome, Person, PersonFailedError

KEEP_ALIVE_SECONDS = 5.0
MEPHISTO_TASK_VERSION = "2.0.3"
"""What the router expects pages to say; anything else is logged."""


class SimulatedWorker:
    """One worker on one assignment of a task that runs on this machine.

    Args:
        assignment: any string; worker and assignment together are one conversation.
        query: of the page's address, for a panel's participant or a visitor; None: the provider mock.
        public_url: the task's ``mephisto.architect.public_url``, if it has one: the worker asks the router on this machine
            as the reverse proxy would for a page of this address.
        person: what the worker says and ticks; None: at random.
    """

    def __init__(
        self,
        port: int,
        worker: str,
        assignment: str,
        behaviour: Behaviour,
        seed: int,
        http: httpx.AsyncClient,
        query: str | None = None,
        public_url: str | None = None,
        person: Person | None = None,
    ) -> None:
        address = None if public_url is None else parse_public_url(public_url)
        self.base = f"localhost:{port}{'' if address is None else address.prefix.rstrip('/')}"
        self._port = port
        self._names = {} if address is None else {"Host": address.origin.split("://")[1], "Origin": address.origin}
        self.worker = worker
        self.assignment = assignment
        self.behaviour = behaviour
        self.outcome = Outcome(worker)
        self.query = query
        self.visitor: str | None = None
        """What the server has given this browser, as the page keeps it."""
        self._rng = random.Random(seed)
        self._paste_rng = random.Random(f"pasted {seed}")  # its own, so that the other choices are the same without it
        self.person = person or Person(behaviour, self._rng)
        self._http = http
        self._socket: ClientConnection | None = None
        self._seen: set[str] = set()
        self._updates: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self.agent_id: str | None = None
        self.config: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.disconnect()

    # --- the wire ---

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST to the router and return its answer."""
        response = await self._http.post(
            f"http://{self.base}/{path}", json=body, headers=self._names, timeout=self.behaviour.step_timeout
        )
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        self.outcome.packets.append(answer)
        return answer

    async def load_config(self) -> dict[str, Any]:
        """Fetch what every page is told."""
        response = await self._http.get(
            f"http://{self.base}/task_config.json",
            params={"mephisto_task_version": MEPHISTO_TASK_VERSION},
            headers=self._names,
            timeout=self.behaviour.step_timeout,
        )
        response.raise_for_status()
        self.config = response.json()
        return self.config

    async def register(self) -> dict[str, Any]:
        """Ask for work; return the agent's details."""
        answer = await self._request_agent()
        if answer["data"].get("visitor"):
            self.visitor = answer["data"]["visitor"]
            answer = await self._request_agent()
        return await self.adopt(answer)

    async def _request_agent(self) -> dict[str, Any]:
        ids: dict[str, Any] = {
            "worker_name": self.worker,
            "agent_registration_id": f"{self.assignment}-{self.worker}",
            "assignment_id": self.assignment,
            "provider_type": "mock",
        }
        if self.query is not None:
            ids = {"provider_type": "panel", "query": self.query, "visitor": self.visitor}
        if self.person.mark is not None:
            ids["simulated"] = self.person.mark
        return await self.post("request_agent", {"provider_data": ids, "client_timestamp": time.time()})

    async def adopt(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Become the agent that an answer names, and connect as it."""
        details: dict[str, Any] = answer["data"]
        self.outcome.ending = details.get("ending") or self.outcome.ending
        self.agent_id = details.get("agent_id")
        if self.agent_id is not None:
            for update in (details.get("init_task_data") or {}).get("past_live_updates") or []:
                self._take(update)
            await self.connect()
        return details

    async def connect(self) -> None:
        """Open the socket, say which agent this is, and listen."""
        await self.disconnect()
        # The address names the host for the Host header; the connection is to this machine either way.
        _, slash, path = self.base.partition("/")
        self._socket = await connect(
            f"ws://{self._names.get('Host', f'localhost:{self._port}')}{slash}{path}/",
            origin=cast("Origin | None", self._names.get("Origin")),
            host="localhost",
            port=self._port,
            max_size=None,
            ping_interval=None,
        )
        await self.send_packet("alive", {})
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._keep_alive())]

    async def disconnect(self) -> None:
        """Close the socket, as a page does that is closed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    async def send_packet(self, packet_type: str, data: Any, **more: Any) -> None:
        """Send one packet of Mephisto's protocol."""
        if self._socket is None:
            raise RuntimeError("not connected")
        packet = {
            "packet_type": packet_type,
            "subject_id": self.agent_id,
            "data": data,
            "client_timestamp": time.time(),
        }
        await self._socket.send(json.dumps({**packet, **more}))

    async def send_update(self, task_data: dict[str, Any], text: Any = "", message_id: str | None = None) -> str:
        """Send a live update as the page does; return its message id."""
        message_id = message_id or str(uuid4())
        data = {
            "text": text,
            "id": "Speaker 1",
            "episode_done": False,
            "update_id": message_id,
            "task_data": {"message_id": message_id, **task_data},
        }
        await self.send_packet("mephisto_bound_live_update", data)
        return message_id

    async def _listen(self) -> None:
        socket = self._socket
        if socket is None:
            return
        with contextlib.suppress(ConnectionClosed):
            async for raw in socket:
                packet = json.loads(raw)
                self.outcome.packets.append(packet)
                if packet.get("packet_type") == "client_bound_live_update":
                    self._take(packet["data"])
                elif packet.get("packet_type") == "update_status":
                    self._updates.put_nowait({"status": packet["data"]["status"]})

    async def _keep_alive(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.send_packet("alive", {})
                await asyncio.sleep(KEEP_ALIVE_SECONDS)

    def _take(self, update: dict[str, Any]) -> None:
        if update.get("update_id") in self._seen:
            return
        self._seen.add(update["update_id"])
        data = update.get("task_data") or {}
        self.outcome.ending = data.get("ending") or self.outcome.ending
        if data.get("control") == "ended":
            self._over.set()
        self._updates.put_nowait(update)

    # --- the person ---

    async def run(self) -> Outcome:
        """Live through the whole task and return what became of it."""
        started = time.monotonic()
        try:
            await self.load_config()
            details = await self.register()
            if self.agent_id is not None and self.agent_id.startswith("onboarding_"):
                if not await self._do_onboarding(details):
                    self.outcome.result = self._ended_result("onboarding failed")
                    return self.outcome
                details = await self.adopt(
                    await self.post("submit_onboarding", {"provider_data": {"USED_AGENT_ID": self.agent_id}})
                )
            if self.agent_id is None and details.get("ending"):
                self.outcome.result = f"told: {details['ending']['kind']}"
                return self.outcome
            if self.agent_id is None:
                self.outcome.result = f"no work: {details.get('failure_reason')}"
                return self.outcome
            self.outcome.result = await self._chat(started)
        except TimeoutError:
            self.outcome.result = "error: nothing came from the server"
        except PersonFailedError as error:
            self.outcome.result = f"error: {error}"
        except (httpx.HTTPError, ConnectionClosed, OSError, KeyError) as error:
            self.outcome.result = f"error: {error!r}"
        finally:
            await self.disconnect()
        return self.outcome

    async def next_update(self) -> dict[str, Any]:
        """Return the next new thing that the server said."""
        return await asyncio.wait_for(self._updates.get(), self.behaviour.step_timeout)

    async def _do_onboarding(self, details: dict[str, Any]) -> bool:
        dialogs = details["init_task_data"]["task_data"]["dialogs"]
        while True:
            update = await self.next_update()
            control = update.get("task_data", {}).get("control")
            if control in ("onboarding_start", "onboarding_retry"):
                if await self._think():
                    continue
                await self.send_update({"onboarding_answers": self._onboarding_form(dialogs)})
            elif control == "refused":
                self.outcome.refused[update["task_data"]["code"]] += 1
                return False
            elif control in ("onboarding_passed", "onboarding_failed"):
                return bool(control == "onboarding_passed")
            elif control == "ended":
                self.outcome.cause = update["task_data"].get("cause")
                await self._hand_in()
                return False
            elif update.get("status") in ("disconnect", "timeout", "rejected"):
                return False

    def _onboarding_form(self, dialogs: list[list[dict[str, Any]]]) -> list[list[list[str] | None]]:
        right = self.behaviour.onboarding_answers
        if right is not None:
            return [[line.get("answers") for line in dialog] for dialog in right["dialog"]]
        first = self.config["annotation"]["buckets"][0]["value"]
        return [[[first] if line["agent_idx"] == 1 else None for line in dialog] for dialog in dialogs]

    async def _chat(self, started: float) -> str:
        texts: list[tuple[int, str]] = []
        said = 0
        sent_at: float | None = None
        to_annotate = False
        reply = ""
        asked: dict[str, Any] = {}
        expecting_refusal = False
        unanswered: dict[str, Any] = {}
        shown: dict[str, Any] = {}
        lengths: Counter[int] = Counter()
        """Characters of the model's side, in each of two chats that are compared."""
        while True:
            update = await self.next_update()
            data = update.get("task_data") or {}
            control = data.get("control")
            if "status" in update:
                if update["status"] in ("disconnect", "timeout", "expired", "returned"):
                    return f"error: {update['status']}"
                continue
            if control is None and update.get("text"):
                key = (data["utterance_idx"], update["text"])
                self.outcome.doubles += key in texts
                texts.append(key)
                self.person.heard(data["agent_idx"], update["text"], fake_start=update.get("fake_start", False))
                if data["agent_idx"] == 1:
                    lengths[data.get("chat_idx", 0)] += len(update["text"])
                    reply = "" if update.get("fake_start", False) or data.get("attention_check") else update["text"]
                    to_annotate = not update.get("fake_start", False) and data.get(
                        "annotate", "problem_data" not in data
                    )
                    now = time.monotonic()
                    if self.outcome.first_message is None:
                        self.outcome.first_message = now - started
                    if sent_at is not None:
                        self._note_reply(sent_at)
                        sent_at = None
            elif control == "refused":
                self.outcome.refused[data["code"]] += 1
                if not expecting_refusal:
                    return f"error: refused {data['code']}"
                expecting_refusal = False
                await self.send_update(**unanswered)
            elif control == "reply_items":
                asked = data
            elif control == "comparison":
                shown = data
                if sent_at is not None:
                    self._note_reply(sent_at)
                    sent_at = None
            elif control == "your_turn":
                has_left = self.behaviour.leave_after is not None and said >= self.behaviour.leave_after
                if self.behaviour.stay_silent or (has_left and data["ask"] != "page"):
                    return "left"
                if self.behaviour.asks_more_time:
                    await self._ask_more_time(data["turn_idx"], data.get("extensions_left") or 0)
                if await self._think():
                    continue
                if data["ask"] == "page":
                    page = data["page"]
                    unanswered = {"task_data": {"page": page["id"], "answers": self.person.page_answers(page)}}
                    expecting_refusal = self.behaviour.sends_invalid
                    if expecting_refusal:
                        wrong = invalid_answers(page["items"], self._rng)
                        await self.send_update({"page": page["id"], "answers": wrong})
                    else:
                        await self.send_update(**unanswered)
                    continue
                answer: dict[str, Any] = {}
                if self.config.get("annotation") and to_annotate:
                    answer["problem_data_for_prior_message"] = await self.person.ticks(
                        self.config["annotation"]["buckets"]
                    )
                    to_annotate = False
                items = [
                    *asked.get("every_reply", ()),
                    *(asked.get("last_reply", ()) if data["ask"] in ("final_rating", "chat_done") else ()),
                ]
                if items and reply and data["ask"] != "comparison":
                    answer["reply_answers"] = valid_answers(items, self._rng, reply)
                if data["ask"] == "comparison" and "questions" in data:
                    judged = [self.person.judgement(data, lengths[0], lengths[1]) for _ in data["questions"]]
                    await self.send_update({"comparison": judged})
                elif data["ask"] == "comparison":
                    left, right = (len(shown[side]["text"]) for side in ("left", "right"))
                    answer = {"comparison": self.person.judgement(data, left, right)}
                    if data.get("boxes"):
                        buckets = self.config["annotation"]["buckets"]
                        answer["problem_data_of_replies"] = {
                            side: await self.person.ticks(buckets) for side in ("left", "right")
                        }
                    await self.send_update(answer)
                elif data["ask"] == "chat_done":
                    await self.send_update({**answer, "chat_done": True})
                elif data["ask"] == "final_rating":
                    answer["final_rating"] = await self.person.ratings(self.config["final_rating_questions"])
                    await self.send_update(answer)
                else:
                    text = "" if data["ask"] == "annotation" else await self.person.line(said)
                    expecting_refusal = self.behaviour.sends_invalid and "reply_answers" in answer
                    if text and self.config.get("record_authenticity"):
                        answer["authenticity"] = self._counts(text)
                    unanswered = {"task_data": answer, "text": text}
                    if expecting_refusal:
                        answer = {**answer, "reply_answers": invalid_answers(items, self._rng)}
                    sent_at = time.monotonic()
                    await self.send_update(answer, text=text)
                    said += 1
            elif control == "ended":
                self.outcome.cause = data.get("cause")
                await self._hand_in()
                return self._ended_result(str(data["outcome"]))

    def _counts(self, text: str) -> dict[str, int]:
        """Counts as the page makes them: of a message that was typed, or, one in eight, pasted after a look elsewhere."""
        pasted = self._paste_rng.random() < 1 / 8
        typed = len(text) + self._paste_rng.randrange(len(text) // 10 + 1)
        return {
            "pasted_characters": len(text) if pasted else 0,
            "times_away": int(pasted),
            "keys": 0 if pasted else typed,
        }

    async def _ask_more_time(self, turn_idx: int, extensions: int) -> None:
        """Ask, as the page's button does, until none is left."""
        for _ in range(extensions):
            await self.send_update({"control": "more_time", "turn_idx": turn_idx})
            self.outcome.extensions += 1

    def _ended_result(self, otherwise: str) -> str:
        return {"stopped": "stopped", "timeout": "time is up", "declined": "declined"}.get(
            self.outcome.cause or "", otherwise
        )

    async def _hand_in(self) -> None:
        """Submit, as the button does; a run that was stopped may be gone by then, and has saved everything."""
        try:
            await self.post("submit_task", {"USED_AGENT_ID": self.agent_id, "final_data": {}})
        except httpx.HTTPError:
            if self.outcome.cause != "stopped":
                raise

    def _note_reply(self, sent_at: float) -> None:
        now = time.monotonic()
        self.outcome.turns.append(now - sent_at)
        self.outcome.replied_at.append(now)

    async def _think(self) -> bool:
        """Wait as a person does before they answer; return whether it was over meanwhile."""
        if not self.behaviour.think_time:
            return False
        return await self._pause(self._rng.expovariate(1 / self.behaviour.think_time))

    async def _pause(self, seconds: float) -> bool:
        """Wait; whoever looks at the page sees at once when it is over: then return True."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._over.wait(), seconds)
        return False
