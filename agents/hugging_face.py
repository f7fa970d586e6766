"""A ParlAI agent for any Hugging Face causal language model with a chat template.

``model.opt`` names it as ``model_chat.agents.hugging_face:HuggingFaceChatAgent``; ``docs/models.md`` describes the flags.
Importing this module imports neither torch nor transformers: they come with the first model.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from parlai.core.agents import Agent
from parlai.core.message import Message

from model_chat.agents._chat_history import ChatHistory
from model_chat.agents._sampling import SamplingSettings
from model_chat.errors import ConfigurationError

if TYPE_CHECKING:
    from parlai.core.opt import Opt
    from parlai.core.params import ParlaiParser

    from model_chat.agents._chat_model import ChatModel, ReplySettings, Written
    from model_chat.agents._weights import Weights

logger = logging.getLogger(__name__)

DEFAULT_SYSTEM_PROMPT = (
    "You are having a friendly chat with someone you have just met. Answer in one to three short sentences, "
    "in your own words, and keep the conversation going."
)
_ROLE_KEY = "hf_chat"
"""Where ``observe`` leaves the conversation for ``batch_act``, as ParlAI's own agents do with ``text_vec``."""
_WAY_KEY = "hf_way"


class Flag(NamedTuple):
    """A flag of the agent: the type that ParlAI's parser knows it by, its default, and what ``--help`` says."""

    kind: Any
    default: Any
    meaning: str


DTYPES = ("auto", "float32", "float16", "bfloat16")
FLAGS: dict[str, Flag] = {
    "hf_model": Flag(
        str,
        None,
        "folder with config.json and weights, relative to the folder of model.opt, or a name on the hub; left out: the "
        "folder of model.opt itself",
    ),
    "gguf_file": Flag(str, None, "a GGUF file: its path, or its name within --hf-model"),
    "hf_revision": Flag(str, "main", "branch, tag or commit, for a model from the hub"),
    "system_prompt": Flag(str, DEFAULT_SYSTEM_PROMPT, 'who the model is to be; "" for none'),
    "max_new_tokens": Flag(int, 60, "tokens of a reply at most"),
    "whole_sentences": Flag("bool", True, "cut a reply that ran into --max-new-tokens after its last whole sentence"),
    "do_sample": Flag("bool", True, "draw tokens by chance; False takes the most probable ones"),
    "temperature": Flag(float, 0.7, "above 1 more surprising, below 1 more likely tokens"),
    "top_p": Flag(float, 0.9, "draw from the most probable tokens that share this probability"),
    "top_k": Flag(int, 0, "draw from that many most probable tokens; 0 for no limit"),
    "repetition_penalty": Flag(float, 1.1, "makes tokens of the conversation so far less likely; 1 for not at all"),
    "history_turns": Flag(int, -1, "how many exchanges before the last message are shown; -1: all"),
    "max_prompt_tokens": Flag(
        int, 1024, "tokens that the model is shown at most: the system prompt, and of the conversation the end"
    ),
    "hf_dtype": Flag(str, "auto", "number format; auto is float32 on a CPU, else what the model was saved in"),
    "hf_device": Flag(str, "auto", "cpu, cuda, cuda:1, mps; auto takes a GPU if there is one"),
    "torch_threads": Flag(int, 0, "CPU threads of the whole process; 0 leaves torch's choice"),
    "hf_seed": Flag(int, None, "with it the same conversation gets the same replies"),
    "chat_template": Flag(str, None, "file with a chat template, if the model has none of its own"),
    "chat_template_args": Flag(str, '{"enable_thinking": false}', "JSON object with values for the chat template"),
    "prompt_cache_mb": Flag(
        int, 512, "MiB for what conversations have read so far, so that it isn't read again each turn; 0 for none"
    ),
}
"""Every flag of the agent, by its key in an opt."""


class _Way(NamedTuple):
    """How a conversation is shown to the model, and how it replies; each row of a batch has its own."""

    chat_model: ChatModel
    settings: ReplySettings


class HuggingFaceChatAgent(Agent):
    """Chats with a Hugging Face model; one instance a conversation, all with the same weights.

    Agents whose options name the same weights share them, though prompt, template and sampling differ.

    Each instance is used by one thread at a time. What instances share (:class:`ChatModel`) is safe to use from several.

    Args:
        opt: ParlAI's opt; the flags of :meth:`add_cmdline_args`.
        shared: what :meth:`share` returned, for an instance with the same model and an empty history.

    Raises:
        ConfigurationError: the model can't be loaded, or a flag is out of range.
    """

    batched_serving = True
    """``observe`` only remembers, so that several conversations can be answered in one :meth:`batch_act`."""
    streams = True
    """What is under ``tell`` in an observation is called with the text so far."""

    @classmethod
    def add_cmdline_args(cls, parser: ParlaiParser, partial_opt: Opt | None = None) -> ParlaiParser:
        """Add this agent's flags to ParlAI's parser."""
        del partial_opt  # no flag depends on another
        group = parser.add_argument_group("Hugging Face chat")
        for name, flag in FLAGS.items():
            group.add_argument(
                f"--{name.replace('_', '-')}",
                type=flag.kind,
                default=flag.default,
                choices=DTYPES if name == "hf_dtype" else None,
                help=flag.meaning,
            )
        return parser

    def __init__(self, opt: Opt, shared: dict[str, Any] | None = None) -> None:
        super().__init__(opt, shared)
        self.id = "HuggingFaceChat"
        opt_folder = Path(opt["model_file"]).expanduser().resolve().parent if opt.get("model_file") else None
        self._settings = _settings(opt)
        self._chat_model: ChatModel = shared["chat_model"] if shared else _load(opt, opt_folder, self._settings)
        self._way = _Way(self._chat_model, self._settings)
        self._system_prompt = str(_value(opt, "system_prompt") or "")
        self._history_turns = int(_value(opt, "history_turns"))
        self._conversation = ""
        self._start_afresh()
        if not shared and not self._fits("Hi!"):
            raise ConfigurationError(
                f"--max-prompt-tokens: {self._settings.max_prompt_tokens} leave no room for a message beside the system "
                "prompt; raise it, or shorten --system-prompt."
            )

    @property
    def shared_weights(self) -> Weights:
        """The weights; any agent that holds the same can answer this one's conversations in its :meth:`batch_act`."""
        return self._chat_model.weights

    def share(self) -> dict[str, Any]:
        """What :func:`parlai.core.agents.create_agent_from_shared` needs to make a conversation with the same weights."""
        shared: dict[str, Any] = super().share()
        shared["chat_model"] = self._chat_model
        return shared

    def reset(self) -> None:
        """Forget the conversation, the persona included."""
        super().reset()
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._chat_model.forget(self._conversation)
        self._conversation = uuid.uuid4().hex
        self._history = ChatHistory(self._system_prompt, self._history_turns)
        self._episode_over = False

    def observe(self, observation: dict[str, Any]) -> Message:
        """Take in what the other one said, or the persona (lines that begin with ``your persona:``).

        Returns:
            the observation with the conversation so far, as :meth:`batch_act` needs it.
        """
        if self._episode_over:
            self._start_afresh()
        self._history.observe(observation)
        self._episode_over = bool(observation.get("episode_done", False))
        seen = Message(observation)
        seen.force_set(_ROLE_KEY, self._history.messages())
        seen.force_set("hf_conversation", self._conversation)
        seen.force_set(_WAY_KEY, self._way)
        self.observation = seen
        return seen

    def takes_text(self, text: str) -> bool:
        """Whether a message can be shown to the model whole, beside the system prompt and the persona.

        The task asks before it takes a worker's message: one that doesn't fit is refused as too long.
        """
        return self._fits(text) or not self._fits("Hi!")  # without room for any message, a shorter one is no help

    def _fits(self, text: str) -> bool:
        about = [message for message in self._history.messages() if message["role"] == "system"]
        return self._chat_model.fits([*about, {"role": "user", "content": text}], self._settings.max_prompt_tokens)

    def act(self) -> Message:
        """Reply to what was observed last, and remember the reply.

        Raises:
            RuntimeError: nothing was observed.
        """
        if self.observation is None:
            raise RuntimeError("This agent was asked to act before it observed anything.")
        reply = self.batch_act([self.observation])[0]
        self.self_observe(reply)
        return reply

    def batch_act(self, observations: Sequence[Message]) -> list[Message]:
        """Reply to several conversations at once; each of their agents is to ``self_observe`` its reply.

        Args:
            observations: what the :meth:`observe` of each returned; of agents with the same :attr:`shared_weights`.

        Returns:
            one message each, in order; its text is empty when the model had nothing to say.
        """
        asked = [observation for observation in observations if _ROLE_KEY in observation]
        ways: list[_Way] = [each[_WAY_KEY] for each in asked]
        prompts = [
            way.chat_model.prompt(each[_ROLE_KEY], way.settings.max_prompt_tokens, each["hf_conversation"])
            for each, way in zip(asked, ways, strict=True)
        ]
        tells = [each.get("tell") for each in asked]
        written = iter(self._chat_model.written(prompts, [way.settings for way in ways], tells) if prompts else [])
        # Rows of ParlAI's batches can be empty (padding at the end of the data): they get an empty reply.
        return [self._message(next(written) if _ROLE_KEY in each else None) for each in observations]

    def _message(self, written: Written | None) -> Message:
        message = Message({"id": self.getID(), "episode_done": False, "text": ""})
        if written is not None:
            generation = written._asdict()
            message.force_set("text", generation.pop("text"))
            message["generation"] = generation
        return message

    def self_observe(self, self_message: dict[str, Any]) -> None:
        """Remember what this agent itself said last."""
        self._history.has_said(self_message.get("text") or "")


def _value(opt: Opt, key: str) -> Any:
    """A flag's value; an opt that was written by hand may lack it."""
    value = opt.get(key)
    return FLAGS[key].default if value is None else value


def _settings(opt: Opt) -> ReplySettings:
    from model_chat.agents._chat_model import ReplySettings

    sampling = SamplingSettings(
        do_sample=bool(_value(opt, "do_sample")),
        **{name: float(_value(opt, name)) for name in ("temperature", "top_p", "repetition_penalty")},
        top_k=int(_value(opt, "top_k")),
    )
    seed = opt.get("hf_seed")
    settings = ReplySettings(
        max_new_tokens=int(_value(opt, "max_new_tokens")),
        max_prompt_tokens=int(_value(opt, "max_prompt_tokens")),
        whole_sentences=bool(_value(opt, "whole_sentences")),
        seed=None if seed is None else int(seed),
        sampling=sampling,
    )
    faults = sampling.faults()
    limits = {"max-new-tokens": settings.max_new_tokens, "max-prompt-tokens": settings.max_prompt_tokens}
    faults += [f"--{flag} must be at least 1, not {number}." for flag, number in limits.items() if number < 1]
    ConfigurationError.raise_if(faults)
    return settings


def _load(opt: Opt, opt_folder: Path | None, settings: ReplySettings) -> ChatModel:
    from model_chat.agents._model_files import ModelLocation, load_chat_model, parse_template_args

    location = ModelLocation.find(
        opt.get("hf_model"), opt.get("gguf_file"), opt_folder, revision=_value(opt, "hf_revision")
    )
    template_file = None
    if opt.get("chat_template"):
        template_file = ((opt_folder or Path.cwd()) / Path(opt["chat_template"]).expanduser()).resolve()
        if not template_file.is_file():
            raise ConfigurationError(
                f"--chat-template: there is no file '{template_file}'; give the path of a template."
            )
    threads = int(_value(opt, "torch_threads"))
    if threads < 0:
        raise ConfigurationError(f"--torch-threads must be at least 0, not {threads}; 0 leaves torch's choice.")
    if threads:
        import torch

        torch.set_num_threads(threads)
    chat_model = load_chat_model(
        location,
        dtype=_value(opt, "hf_dtype"),
        device=_value(opt, "hf_device"),
        model_parallel=bool(opt.get("model_parallel")),
        template_file=template_file,
        template_args=parse_template_args(_value(opt, "chat_template_args")),
        prompt_cache_bytes=int(_value(opt, "prompt_cache_mb")) << 20,
    )
    context = chat_model.context_length
    needed = settings.max_prompt_tokens + settings.max_new_tokens
    if context is not None and needed > context:
        raise ConfigurationError(
            f"--max-prompt-tokens: {settings.max_prompt_tokens} and --max-new-tokens {settings.max_new_tokens} are more "
            f"together than the {context} tokens that '{location}' can see; lower one of them."
        )
    return chat_model
