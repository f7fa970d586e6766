"""Small talk made from templates, for training ``demo/blender_tiny`` without any data set."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """One thing to talk about.

    Attributes:
        question: how one asks the other about it.
        things: what one can like or have, as it stands after "I like".
        remark: what is said of any of the things; ``{}`` stands for the thing.
        follow_up: what one asks next.
        detail: a sentence for the one who is asked to say more.
    """

    question: str
    things: tuple[str, ...]
    remark: str
    follow_up: str
    detail: str


TOPICS = (
    Topic(
        "Do you have any pets?",
        ("dogs", "cats", "rabbits", "parrots"),
        "I think {} are lovely, they are good company.",
        "Did you have a pet as a child?",
        "I walk in the park with them every morning.",
    ),
    Topic(
        "What do you like to eat?",
        ("pizza", "noodles", "curry", "soup"),
        "I could eat {} every day of the week.",
        "Do you cook at home?",
        "I cook with my sister on Sundays.",
    ),
    Topic(
        "What kind of music do you like?",
        ("jazz", "rock", "folk songs", "piano music"),
        "I listen to {} when I work.",
        "Do you play an instrument?",
        "I went to a concert last week and it was great.",
    ),
    Topic(
        "Do you like sports?",
        ("football", "tennis", "swimming", "running"),
        "I enjoy {} too, it keeps me fit.",
        "How often do you train?",
        "I train with friends twice a week.",
    ),
    Topic(
        "What do you like to read?",
        ("novels", "poems", "comics", "history books"),
        "I have a whole shelf of {} at home.",
        "What did you read last?",
        "I read for an hour before I sleep.",
    ),
    Topic(
        "Where do you like to travel?",
        ("the sea", "the mountains", "big cities", "quiet villages"),
        "I was happy when I saw {} last summer.",
        "Where will you go next?",
        "I always take the train and look out of the window.",
    ),
    Topic(
        "What do you do for work?",
        ("teaching", "nursing", "gardening", "writing"),
        "I have a friend who says that {} is hard but good work.",
        "Do you like your job?",
        "I start early and finish at four.",
    ),
    Topic(
        "What films do you like?",
        ("comedies", "old films", "cartoons", "science fiction"),
        "I watch {} with my family at the weekend.",
        "Who is your favourite actor?",
        "I saw one yesterday and laughed a lot.",
    ),
)

GREETINGS = (
    "Hi!",
    "Hi",
    "Hello!",
    "Hello",
    "Hey there",
    "Good morning!",
    "Hi, how are you?",
    "Hello, how are you today?",
)
WELCOMES = ("Hi! How are you today?", "Hello! I am doing well, how are you?", "Hi there! How is your day going?")
MOODS = ("I am fine, thanks.", "I am good", "Good, and you?", "A bit tired today.", "Great!", "Not bad, thank you")
FILLERS = ("I see.", "Ok", "Cool", "That is nice", "Interesting!", "Really?", "Yes", "No", "I do not know", "Why?")
THANKS = ("That is good to hear.", "I am glad that we can talk.", "Thanks for telling me.", "Oh, I know what you mean.")
GOODBYES = ("Bye!", "Goodbye", "I have to go now.", "See you later", "Thank you for the chat!")
FAREWELLS = ("It was nice to talk to you. Goodbye!", "Goodbye! Have a lovely day.", "See you soon, take care!")


def conversation(rng: random.Random, exchanges: int = 6) -> list[tuple[str, str]]:
    """Make one conversation.

    Args:
        exchanges: how many pairs of utterances, at least 2.

    Returns:
        pairs of what the person says and what the model should answer.

    Raises:
        ValueError: fewer than 2 exchanges.
    """
    if exchanges < 2:
        raise ValueError(f"exchanges must be at least 2, not {exchanges}.")
    topics = rng.sample(TOPICS, k=min(len(TOPICS), exchanges))
    pairs = [(rng.choice(GREETINGS), rng.choice(WELCOMES))]
    asked = topics.pop()
    pairs.append((rng.choice(MOODS), f"{rng.choice(THANKS)} {asked.question}"))
    while len(pairs) < exchanges - 1:
        thing = rng.choice(asked.things)
        kind = rng.random()
        if kind < 0.4:  # the person answers what they were asked
            said = rng.choice(("I like {}.", "Mostly {}", "I love {}, and you?", "{} for me")).format(thing)
            reply = f"{asked.remark.format(thing)} {asked.follow_up}"
        elif kind < 0.7:  # the person asks
            asked = topics.pop() if topics else rng.choice(TOPICS)
            thing = rng.choice(asked.things)
            said, reply = asked.question, f"I like {thing}. {asked.detail} What about you?"
        else:  # the person says little
            said = rng.choice(FILLERS)
            asked = topics.pop() if topics else rng.choice(TOPICS)
            reply = f"{rng.choice(THANKS)} {asked.question}"
        pairs.append((said, reply))
    pairs.append((rng.choice(GOODBYES), rng.choice(FAREWELLS)))
    return pairs


def conversations(count: int, seed: int) -> list[list[tuple[str, str]]]:
    """Make ``count`` conversations, the same ones for the same seed."""
    rng = random.Random(seed)
    return [conversation(rng) for _ in range(count)]
