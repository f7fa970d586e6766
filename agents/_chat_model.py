"""A causal language model with a chat template, read and run by Hugging Face's ``transformers``."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from model_chat.agents._reply_text import (
    opens_thoughts,
    thought_marks,
    up_to_last_sentence,
    without_open_thoughts,
    without_thoughts,
)
from model_chat.agents._sampling import ReplyEnds, ReplySampler, SamplingSettings
from model_chat.agents._telling import ReplyTeller, Tell
from model_chat.agents._weights import Weights
from model_chat.errors import ConfigurationError

logger = logging.getLogger(__name__)

Message = dict[str, str]
"""One message of a chat: its ``role`` (system, user or assistant) and its ``content``."""

_MARK = "qqzzqq"


@dataclass(frozen=True)
class ReplySettings:
    """How replies are made.

    Attributes:
        max_prompt_tokens: tokens of the conversation that the model is shown at most, the system prompt among them.
        whole_sentences: cut a reply that ran into ``max_new_tokens`` after its last whole sentence.
        seed: with the same seed a conversation gets the same replies; None: new chance each time.
    """

    max_new_tokens: int = 60
    max_prompt_tokens: int = 1024
    whole_sentences: bool = True
    seed: int | None = None
    sampling: SamplingSettings = field(default_factory=SamplingSettings)


@dataclass(frozen=True)
class Prompt:
    """What the model is shown.

    Attributes:
        tokens: token ids, at least one.
        inside_thoughts: whether the chat template has already opened the model's thoughts.
        conversation: a name under which the model keeps what it has read until the next turn; None keeps nothing.
    """

    tokens: list[int]
    inside_thoughts: bool = False
    conversation: str | None = None
    stop_ids: frozenset[int] = frozenset()


class Written(NamedTuple):
    """A reply as a model wrote it.

    Attributes:
        completion_tokens: what it wrote, the mark of the end and its thoughts included.
        finish_reason: ``stop``, or ``length`` where the limit of tokens cut it off.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str


class ChatModel:
    """A model, its tokenizer and a chat template; shared by all conversations with it.

    Several may share their weights, each with a template of its own; prompts of all of them can be answered in one batch.
    Safe to use from several threads: nothing here changes after loading but :class:`PromptCache`, which has a lock.

    Args:
        template: a chat template (Jinja); None takes the tokenizer's own.
        template_args: extra values for the chat template, for instance ``{"enable_thinking": False}``.

    Raises:
        ConfigurationError: there is no chat template, one that can't be used, or tokens unknown to the model.
    """

    def __init__(
        self,
        weights: Weights,
        name: str,
        template: str | None = None,
        template_args: Mapping[str, Any] | None = None,
        keeps_prompts: bool = False,
    ) -> None:
        model, tokenizer = weights.model, weights.tokenizer
        if not (template or tokenizer.chat_template):
            raise ConfigurationError(
                f"--hf-model: the tokenizer of '{name}' has no chat template, so it is no chat model; take one trained for "
                "chat (often called Instruct or Chat), or give a template with --chat-template."
            )
        self.weights = weights
        self._model = model
        self._tokenizer = tokenizer
        self._template = template
        self._keeps_prompts = keeps_prompts
        self._name = name
        self._template_args = dict(template_args or {})
        known = model.get_input_embeddings().weight.shape[0]
        self._known_tokens: int = known
        _check_words(tokenizer, known, name)
        special_ids = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
        special_ids.update(tokenizer.all_special_ids)
        self._special_ids = frozenset(token_id for token_id in special_ids if token_id < known)
        marks = thought_marks(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        mark_ids = set(tokenizer.convert_tokens_to_ids(sorted(marks)))
        self._silent_ids = self._special_ids - mark_ids if mark_ids else None
        """What is not read of a reply; None: no special token of this tokenizer marks thoughts."""
        # What was added to the tokenizer and not to the model ([PAD] often) must not be read from what somebody types.
        unknown_ids = {token_id for token_id in tokenizer.added_tokens_decoder if token_id >= known}
        self._special_texts = sorted(
            {tokenizer.convert_ids_to_tokens(token_id) for token_id in special_ids | unknown_ids}, key=len, reverse=True
        )
        self._takes_system = self._accepts([_message("system", _MARK), _message("user", "Hi")], must_show=_MARK)
        self._takes_model_first = self._accepts([_message("assistant", _MARK), _message("user", "Hi")], must_show=_MARK)
        if not self._accepts([_message("user", _MARK)], must_show=_MARK):
            raise ConfigurationError(
                f"--hf-model: the chat template of '{name}' doesn't accept a user's message; give another one with "
                "--chat-template."
            )
        self._check_template()
        self._stop_ids = self._find_stop_ids()
        pad_id = tokenizer.pad_token_id
        self._pad_id: int = pad_id if pad_id is not None and pad_id < known else min(self._stop_ids, default=0)
        self._cache = weights.cache

    def _check_template(self) -> None:
        """Raise a ConfigurationError if the chat template writes tokens that the model doesn't know."""
        whole = [_message("system", "Hi"), _message("user", "Hi"), _message("assistant", "Hi"), _message("user", "Hi")]
        unknown = [token for token in self._render_tokens(whole)[1] if token >= self._known_tokens]
        if unknown:
            token = self._tokenizer.convert_ids_to_tokens(unknown[0])
            raise ConfigurationError(
                f"--hf-model: the chat template of '{self._name}' writes {token!r}, a "
                f"token that the model has no embedding for (it has {self._known_tokens}); take the tokenizer that the "
                "model was trained with, or give another template with --chat-template."
            )

    @property
    def context_length(self) -> int | None:
        """How many tokens the model can see at once, or None when its configuration doesn't say."""
        length = getattr(self._model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        return length if isinstance(length, int) and length > 0 else None

    @property
    def device(self) -> str:
        """Where the model runs, in torch's words."""
        return str(self._model.device)

    def prompt(self, messages: Sequence[Message], max_tokens: int, conversation: str | None = None) -> Prompt:
        """Turn a chat into what the model is shown.

        What doesn't fit is left out from the beginning, the system prompt excepted: whole exchanges first, then the
        beginning of the last message.

        Args:
            messages: an optional system message first; after it, user and assistant in any order.

        Raises:
            ValueError: not even the system prompt with a word of the last message fits.
        """
        conversation = conversation if self._keeps_prompts else None
        system = [message for message in messages if message["role"] == "system"]
        turns = [message for message in messages if message["role"] != "system"]
        while True:
            text, tokens = self._render_tokens([*system, *turns])
            if len(tokens) <= max_tokens:
                return Prompt(tokens, opens_thoughts(text), conversation, self._stop_ids)
            next_user = next((at for at, turn in enumerate(turns) if at > 0 and turn["role"] == "user"), None)
            if next_user is not None:
                turns = turns[next_user:]
            elif len(turns) > 1:
                turns = turns[-1:]
            else:
                text, tokens = self._shortened(system, turns[0], len(tokens) - max_tokens, max_tokens)
                return Prompt(tokens, opens_thoughts(text), conversation, self._stop_ids)

    def fits(self, messages: Sequence[Message], max_tokens: int) -> bool:
        """Whether a chat can be shown whole in a prompt of ``max_tokens``."""
        return len(self._render_tokens(messages)[1]) <= max_tokens

    def forget(self, conversation: str) -> None:
        """Drop what is kept of a conversation that is over."""
        self._cache.forget(conversation)

    def _shortened(self, system: list[Message], last: Message, surplus: int, max_tokens: int) -> tuple[str, list[int]]:
        """Return the prompt with as much of the end of the last message as fits, as text and as tokens."""
        kept = self._tokenizer(last["content"], add_special_tokens=False)["input_ids"]
        while kept := kept[surplus:]:
            # The first tokens may be the rest of a character that was cut in two.
            shorter = self._tokenizer.decode(kept, skip_special_tokens=True).lstrip("\ufffd").strip()
            if not shorter:
                break
            text, tokens = self._render_tokens([*system, _message(last["role"], shorter)])
            surplus = len(tokens) - max_tokens
            if surplus <= 0:
                return text, tokens
        raise ValueError(
            f"--max-prompt-tokens: the system prompt and persona of '{self._name}' leave no room for a message; raise it."
        )

    def calculates(self, prompt: Prompt) -> bool:
        """Whether what the model calculates of a prompt are numbers: damaged weights, or overflow, make NaN of all."""
        import torch

        with torch.inference_mode():
            scores = self._model(torch.tensor([prompt.tokens], device=self._model.device)).logits[0, -1]
        return not bool(scores.isnan().any()) and bool(scores.isfinite().any())

    def replies(self, prompts: Sequence[Prompt], settings: ReplySettings) -> list[str]:
        """Let the model answer several chats at once.

        Args:
            prompts: what :meth:`prompt` made, at least one.

        Returns:
            one text each, without marks of turns and without thoughts; empty if the model had nothing to say.
        """
        return [reply.text for reply in self.written(prompts, [settings] * len(prompts))]

    def written(
        self, prompts: Sequence[Prompt], settings: Sequence[ReplySettings], tells: Sequence[Tell | None] = ()
    ) -> list[Written]:
        """Let the model answer several chats at once, each with its own settings.

        Args:
            prompts: what :meth:`prompt` made, here or with other templates over the same weights; at least one.
            tells: for each prompt what is told its reply while it grows, or None; empty: nobody is told.
        """
        started = time.monotonic()
        written = self._generate(prompts, settings, tells)
        texts = [self._text(*row) for row in zip(written, prompts, settings, strict=True)]
        logger.debug(
            "%s: %d replies, %d tokens, %.2f s",
            self._name,
            len(texts),
            sum(map(len, written)),
            time.monotonic() - started,
        )
        return [
            Written(text, len(prompt.tokens), len(tokens), "stop" if _is_finished(tokens, prompt) else "length")
            for text, prompt, tokens in zip(texts, prompts, written, strict=True)
        ]

    def _generate(
        self, prompts: Sequence[Prompt], settings: Sequence[ReplySettings], tells: Sequence[Tell | None]
    ) -> list[list[int]]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        longest = max(len(prompt.tokens) for prompt in prompts)
        rows = [[self._pad_id] * (longest - len(prompt.tokens)) + prompt.tokens for prompt in prompts]
        mask = [[0] * (longest - len(prompt.tokens)) + [1] * len(prompt.tokens) for prompt in prompts]
        limits = [each.max_new_tokens for each in settings]
        sampler = ReplySampler(
            [each.sampling for each in settings],
            seeds=[_seed(each.seed, prompt.tokens) for each, prompt in zip(settings, prompts, strict=True)],
            prompt_lengths=[len(prompt.tokens) for prompt in prompts],
            never_penalised=self._special_ids,
        )
        config = GenerationConfig(
            max_new_tokens=max(limits),
            do_sample=False,  # the sampler's scores hold the draw already
            pad_token_id=self._pad_id,
            use_cache=True,
            return_dict_in_generate=True,
        )
        # Rows of a batch are padded to one length, so that their caches don't fit a later turn of one conversation.
        conversation = prompts[0].conversation if len(prompts) == 1 else None
        kept = None if conversation is None else self._cache.take(conversation, prompts[0].tokens)
        input_ids = torch.tensor(rows, device=self._model.device)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids,
                attention_mask=torch.tensor(mask, device=self._model.device),
                generation_config=config,
                logits_processor=LogitsProcessorList([*self._tellers(tells, prompts, limits, longest), sampler]),
                stopping_criteria=StoppingCriteriaList(
                    [ReplyEnds([prompt.stop_ids for prompt in prompts], limits, longest)]
                ),
                **({} if kept is None else {"cache": kept}),
            )
        if conversation is not None:
            self._cache.keep(conversation, output.sequences[0].tolist(), _cache_of(output))
        return [
            _until_stop(row[longest : longest + limit], prompt)
            for row, limit, prompt in zip(output.sequences.tolist(), limits, prompts, strict=True)
        ]

    def _tellers(
        self, tells: Sequence[Tell | None], prompts: Sequence[Prompt], limits: Sequence[int], padded_length: int
    ) -> list[ReplyTeller]:
        """What tells replies while they grow; nothing where nobody is told."""
        if not any(tells):
            return []

        def so_far(row: int, tokens: list[int]) -> str:
            # The batch ends with its longest row: what a row has beyond its own end is no part of its reply.
            own = _until_stop(tokens[: limits[row]], prompts[row])
            text = self._decode(own)
            # An unfinished end can be half of a character, or of a tag.
            return without_open_thoughts(text.rstrip("\ufffd"), prompts[row].inside_thoughts).strip()

        return [ReplyTeller(tells, so_far, padded_length)]

    def _decode(self, tokens: list[int]) -> str:
        """The text of tokens without special ones, but for those that mark thoughts."""
        text: str
        if self._silent_ids is None:
            text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        else:
            text = self._tokenizer.decode([token for token in tokens if token not in self._silent_ids])
        return text

    def _text(self, tokens: list[int], prompt: Prompt, settings: ReplySettings) -> str:
        finished = _is_finished(tokens, prompt)
        text = without_thoughts(self._decode(tokens), prompt.inside_thoughts).strip()
        # Bytes of a character that the token limit cut in two.
        text = text.rstrip("\ufffd") if not finished else text
        return text if finished or not settings.whole_sentences else up_to_last_sentence(text).strip()

    def _render_tokens(self, messages: Sequence[Message]) -> tuple[str, list[int]]:
        text = self._render(messages)
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return text, tokens

    def _render(self, messages: Sequence[Message]) -> str:
        return self._templated(self._fitted(messages))

    def _templated(self, messages: Sequence[Message], generates: bool = True) -> str:
        """What the chat template makes of messages.

        Args:
            generates: whether it is to end where the model's reply begins.

        Raises:
            Exception: jinja2's, or whatever a template raises on purpose.
        """
        text: str = self._tokenizer.apply_chat_template(
            messages,
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=generates,
            **self._template_args,
        )
        return text

    def _fitted(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as this model's template wants them: marks of turns taken out, roles alternating."""
        merged: list[Message] = []
        for message in messages:
            content = self._plain(message["content"])
            if merged and merged[-1]["role"] == message["role"]:
                merged[-1] = _message(message["role"], f"{merged[-1]['content']}\n{content}")
            else:
                merged.append(_message(message["role"], content))
        system = merged.pop(0) if merged and merged[0]["role"] == "system" else None
        if merged and merged[0]["role"] == "assistant" and not self._takes_model_first:
            merged.insert(0, _message("user", "…"))
        if system is None:
            return merged
        if self._takes_system or not merged:
            return [system, *merged]
        first, *rest = merged
        return [_message(first["role"], f"{system['content']}\n\n{first['content']}"), *rest]

    def _plain(self, text: str) -> str:
        """The text without anything that the tokenizer would read as a mark of turns: nobody speaks for another."""
        before = None
        while before != text:
            before = text
            for special in self._special_texts:
                text = text.replace(special, "")
        return text

    def _accepts(self, messages: list[Message], must_show: str) -> bool:
        """Whether the chat template takes these messages, and shows what they say."""
        try:
            return must_show in self._templated(messages)
        except Exception as error:  # jinja2's, or whatever a template raises on purpose
            logger.debug("The chat template of %s refuses %s: %s", self._name, messages, error)
            return False

    def _find_stop_ids(self) -> frozenset[int]:
        """The tokens that end a reply: the ones that model and tokenizer name, and the template's own end of a turn.

        The last matters for files (GGUF among them) that name only the end of a document.
        """
        found: set[int | None] = set()
        for named in (self._tokenizer.eos_token_id, *self.weights.end_ids):
            found.update(named if isinstance(named, list) else [named])
        try:
            text = self._templated([_message("user", "Hi"), _message("assistant", _MARK)], generates=False)
        except Exception as error:  # as in _accepts
            logger.debug("The chat template of %s shows no finished reply: %s", self._name, error)
        else:
            after = self._tokenizer(text.rpartition(_MARK)[2].lstrip(), add_special_tokens=False)["input_ids"]
            if after and after[0] in self._special_ids:
                found.add(after[0])
        # A model's generation_config.json can name anything.
        return frozenset(each for each in found if type(each) is int and 0 <= each < self._known_tokens)


def _check_words(tokenizer: Any, known: int, name: str) -> None:
    """Raise a ConfigurationError if a tokenizer has words that a model of ``known`` embeddings doesn't."""
    added = tokenizer.get_added_vocab()
    unknown = sorted((at, word) for word, at in tokenizer.get_vocab().items() if at >= known and word not in added)
    if unknown:
        raise ConfigurationError(
            f"--hf-model: the tokenizer of '{name}' has {len(unknown)} words that the model has no embedding for (it has "
            f"{known}; the first is {unknown[0][1]!r}): they don't belong together; take the tokenizer that the model was "
            "trained with."
        )


def _is_finished(tokens: Sequence[int], prompt: Prompt) -> bool:
    return bool(tokens) and tokens[-1] in prompt.stop_ids


def _until_stop(tokens: list[int], prompt: Prompt) -> list[int]:
    """The tokens up to the first that stops a reply, which stays as a sign that the reply was finished."""
    for at, token in enumerate(tokens):
        if token in prompt.stop_ids:
            return tokens[: at + 1]
    return tokens


def _cache_of(output: Any) -> Any:
    cache = getattr(output, "cache", None)
    return cache if cache is not None else getattr(output, "past_key_values", None)


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _seed(seed: int | None, tokens: Sequence[int]) -> int:
    if seed is None:
        return secrets.randbits(63)
    digest = hashlib.sha256(f"{seed} {list(tokens)}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
