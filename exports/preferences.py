"""Pairs of replies and labels of replies, for training on people's judgements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from model_chat.errors import ConfigurationError
from model_chat.exports.messages import ASSISTANT, USER, ExportedConversation, Message, ticks_in, ticks_of
from model_chat.exports.settings import LabelRules
from model_chat.records.reading import ReadComparison
from model_chat.records.schema import MODEL_IDX, Pick

HAS_IMAGE = "has_image"
NO_COMPARISON = "no_comparison"
WHOLE_CONVERSATIONS = "whole_conversations_compared"
NOT_IN_DIALOG = "compared_reply_not_in_dialog"
NO_PROMPT = "no_message_before_reply"
EMPTY_REPLY = "empty_reply"
SAME_TEXT = "both_replies_the_same"
NO_REPLY = "no_reply_of_model"
NO_LABEL = "no_label"
CONTRADICTORY = "contradictory_labels"


class Rows:
    """Makes the rows of a format."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        """What gave no row, by reason."""

    def rows(self, exported: ExportedConversation) -> Iterator[dict[str, Any]]:
        """The rows of one conversation."""
        raise NotImplementedError

    def check(self) -> None:
        """Check, after the last conversation, what only all of them together show; by default nothing.

        Raises:
            ConfigurationError: a flag does not fit the data.
        """


class PreferencePairs(Rows):
    """Rows of `trl-preference`: `{"prompt", "chosen", "rejected"}`, one for each judgement with a winner.

    Judgements are left out, by reason; a conversation without any counts once.
    """

    def rows(self, exported: ExportedConversation) -> Iterator[dict[str, Any]]:
        """The pairs of one conversation, in the order in which they were judged."""
        if exported.selected.chat_idx:
            return  # the judgements of two chats are those of the first
        judgements = exported.selected.conversation.comparisons or []
        if not judgements:
            self.left_out[NO_COMPARISON] += 1
        for judged, texts in zip(judgements, exported.metadata["comparisons"], strict=True):
            row = self._row(exported, judged, texts)
            if isinstance(row, str):
                self.left_out[row] += 1
            else:
                yield row

    def _row(
        self, exported: ExportedConversation, judged: ReadComparison, texts: dict[str, Any]
    ) -> dict[str, Any] | str:
        """The pair of one judgement, or the reason why there is none."""
        if judged.pick not in (Pick.LEFT, Pick.RIGHT):
            return judged.pick.value
        if judged.turn_idx is None:
            return WHOLE_CONVERSATIONS
        if exported.has_image:
            return HAS_IMAGE
        replies = {Pick.LEFT: texts["left_text"] or "", Pick.RIGHT: texts["right_text"] or ""}
        chosen = replies.pop(judged.pick)
        (rejected,) = replies.values()
        if not chosen.strip() or not rejected.strip():
            return EMPTY_REPLY
        if chosen == rejected:
            return SAME_TEXT
        position = _position(exported, judged)
        if position is None:
            return NOT_IN_DIALOG
        prompt = exported.messages[:position]
        if not _has_request(prompt):
            return NO_PROMPT
        return {
            "prompt": prompt,
            "chosen": [{"role": ASSISTANT, "content": chosen}],
            "rejected": [{"role": ASSISTANT, "content": rejected}],
        }


def _position(exported: ExportedConversation, judged: ReadComparison) -> int | None:
    """Which message is the reply that the conversation went on with; None where it can't be told.

    It is the model's reply of the exchange `turn_idx`, if its text is that of the side; else the only reply with that text.
    """
    exchanges = exported.selected.conversation.exchanges()
    at = next((position for position, exchange in exchanges.items() if exchange == judged.turn_idx), None)
    went_on = {"left": judged.left.text, "right": judged.right.text}.get(judged.continued_with or "")
    if went_on is not None and (at is None or exported.dialog[at].text != went_on):
        same = [position for position in exchanges if exported.dialog[position].text == went_on]
        at = same[0] if len(same) == 1 else None
    return None if at is None else exported.first_turn + at


def _not_taken(exported: ExportedConversation) -> Iterator[tuple[int | None, Message, dict[str, bool]]]:
    """The annotated replies with which the conversation did not go on: in place of which message, the reply, its boxes."""
    judgements = exported.selected.conversation.comparisons or []
    for judged, texts in zip(judgements, exported.metadata["comparisons"], strict=True):
        ticks = ticks_in(judged.not_taken.problem_data) if judged.not_taken else {}
        if ticks:
            text = texts["right_text" if judged.continued_with == "left" else "left_text"] or ""
            yield _position(exported, judged), {"role": ASSISTANT, "content": text}, ticks


def _has_request(prompt: list[Message]) -> bool:
    return any(message["role"] == USER for message in prompt)


class LabelledReplies(Rows):
    """Rows of `trl-unpaired`: `{"prompt", "completion", "label"}`, one for each reply that a rule calls good or bad.

    Among them are replies with which the conversation did not go on, by their boxes alone: nobody rated a conversation with
    them.

    Where only good or only bad replies are named, of boxes or of ratings, the other ones that were offered these boxes, or
    were rated, are the opposite. A reply that boxes and rating judge differently is left out. Replies are counted as left
    out; a conversation with an image, or without a reply, counts once.
    """

    def __init__(self, rules: LabelRules) -> None:
        super().__init__()
        self._rules = rules
        self._offered: set[str] = set()

    def rows(self, exported: ExportedConversation) -> Iterator[dict[str, Any]]:
        """The labelled replies of one conversation, in order."""
        by_rating = self._by_rating(exported.selected.conversation.ratings)
        replies: list[tuple[int | None, Message, dict[str, bool], set[bool]]] = [
            (position, exported.messages[position], ticks_of(utterance), by_rating)
            for position, utterance in enumerate(exported.dialog, exported.first_turn)
            if utterance.agent_idx == MODEL_IDX and not utterance.fake_start
        ]
        if not replies:
            self.left_out[NO_REPLY] += 1
        if self._rules.good_buckets or self._rules.bad_buckets:
            replies += [(*reply, set()) for reply in _not_taken(exported)]
        for _, _, ticks, _ in replies:
            self._offered.update(ticks)
        if exported.has_image:
            self.left_out[HAS_IMAGE] += 1
            return
        for position, reply, ticks, rated in sorted(replies, key=lambda found: found[0] or 0):
            prompt = exported.messages[:position]
            labels = self._by_boxes(ticks) | rated
            if position is None:
                self.left_out[NOT_IN_DIALOG] += 1
            elif not labels:
                self.left_out[NO_LABEL] += 1
            elif len(labels) > 1:
                self.left_out[CONTRADICTORY] += 1
            elif not reply["content"].strip():
                self.left_out[EMPTY_REPLY] += 1
            elif not _has_request(prompt):
                self.left_out[NO_PROMPT] += 1
            else:
                yield {"prompt": prompt, "completion": [reply], "label": labels == {True}}

    def _by_boxes(self, ticks: dict[str, bool]) -> set[bool]:
        rules = self._rules
        ticked = {name for name, is_ticked in ticks.items() if is_ticked}
        labels = {True} if ticked & rules.good_buckets else set()
        if ticked & rules.bad_buckets:
            labels.add(False)
        if not labels and not rules.bad_buckets and ticks.keys() & rules.good_buckets:
            return {False}
        if not labels and not rules.good_buckets and ticks.keys() & rules.bad_buckets:
            return {True}
        return labels

    def _by_rating(self, ratings: list[int] | None) -> set[bool]:
        low, high, question = self._rules.max_rating, self._rules.min_rating, self._rules.rating_question
        if (low is None and high is None) or not ratings or len(ratings) < question:
            return set()
        rating = ratings[question - 1]
        if high is not None and rating >= high:
            return {True}
        if low is not None and rating <= low:
            return {False}
        if low is None:
            return {False}
        return {True} if high is None else set()

    def check(self) -> None:
        """Check, after the last conversation, that every bucket of the rules was offered for some reply.

        Raises:
            ConfigurationError: one was not; with a name that is mistyped, replies would get wrong labels.
        """
        if not self._offered:
            return  # nothing is annotated, and nothing got a label
        known = ", ".join(sorted(self._offered)) or "none"
        ConfigurationError.raise_if(
            f"{flag} names '{name}', which no reply was annotated with; the boxes that were offered: {known}."
            for flag, names in (
                ("--good-buckets", self._rules.good_buckets),
                ("--bad-buckets", self._rules.bad_buckets),
            )
            for name in sorted(names - self._offered)
        )
