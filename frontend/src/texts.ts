/**
 * Every text that a worker sees and that does not come from the requester or the server. The words are in `texts/en.json`,
 * and in other languages beside it (docs/languages.md); here is where they take values.
 */

import { Formatter, readLanguage, type Language } from "./messages";

const SIDE_NUMBER = { left: 1, right: 2 };

type Pick = "left" | "right" | "tie" | "both_bad";
type Judgements = Record<"tie" | "bothBad" | "better" | "slightlyBetter" | "muchBetter", string>;

/** The texts of a language, as the components use them. */
export function textsOf({ language, direction, conversationLanguage, page }: Language) {
  const { fill, number, time, shortTime } = new Formatter(language);
  const {
    header,
    moreTime,
    log,
    annotation,
    composer,
    block,
    rating,
    judging,
    study,
    comparison,
    chats,
    onboarding,
    screens,
  } = page;
  const { ranking, bestWorst, highlight, range } = study;
  /** What an answer of a comparison is called, of replies or of whole chats. */
  const judged = (words: Judgements, pick: Pick, strength: number | null, points: number): string => {
    if (pick === "tie") return words.tie;
    if (pick === "both_bad") return words.bothBad;
    const degrees = [words.slightlyBetter, ...(points < 7 ? [] : [words.better]), words.muchBetter];
    const better = points < 5 ? words.better : (degrees[(strength ?? 1) - 1] ?? words.better);
    return fill(better, { number: SIDE_NUMBER[pick] });
  };
  const labelled = (message: string, value: number, label: string): string =>
    label === "" ? number(value) : fill(message, { value, label });
  return {
    ...page,
    language,
    direction,
    conversationLanguage,
    number,
    header: {
      ...header,
      turns: (done: number, all: number) => fill(header.turns, { done, all }),
      turnsLeft: (left: number) => (left === 0 ? header.lastTurn : fill(header.turnsLeft, { count: left })),
    },
    time: {
      ...page.time,
      short: shortTime,
      spoken: (seconds: number) => fill(page.time.spoken, { time: time(seconds) }),
      runningOut: (seconds: number) => fill(page.time.runningOut, { time: time(seconds) }),
    },
    moreTime: {
      ...moreTime,
      ask: (seconds: number) => fill(moreTime.ask, { time: time(seconds) }),
      given: (seconds: number) => fill(moreTime.given, { time: time(seconds) }),
    },
    log: {
      ...log,
      /** In the place of an image of a reply, which is not loaded. */
      image: (alt: string) => (alt === "" ? log.image : fill(log.imageNamed, { alt })),
    },
    annotation: { ...annotation, about: (name: string) => fill(annotation.about, { name }) },
    composer: {
      ...composer,
      counter: (length: number, most: number) => fill(composer.counter, { length, count: most }),
    },
    block: {
      ...block,
      too_long: (over: number) => fill(block.too_long, { count: over }),
      choices_missing: (left: number) => fill(block.choices_missing, { count: left }),
      rating_missing: (left: number) => fill(block.rating_missing, { count: left }),
      answers_missing: (left: number) => fill(block.answers_missing, { count: left }),
      onboarding_missing: (left: number) => fill(block.onboarding_missing, { count: left }),
    },
    rating: {
      ...rating,
      option: (value: number, lowest: string, highest: string) =>
        labelled(rating.option, value, value === 1 ? lowest : value === 5 ? highest : ""),
    },
    study: {
      ...study,
      step: (index: number, all: number) => fill(study.step, { index, all }),
      point: (value: number, low: string, high: string, points: number) =>
        labelled(study.point, value, value === 1 ? low : value === points ? high : ""),
      characters: (length: number, most: number) => fill(study.characters, { length, count: most }),
      atLeast: (least: number) => fill(study.atLeast, { count: least }),
      range: (least: number | null, most: number | null) =>
        least !== null && most !== null
          ? fill(range.between, { least, most })
          : least !== null
            ? fill(range.atLeast, { least })
            : most !== null
              ? fill(range.atMost, { most })
              : range.any,
      ranking: {
        ...ranking,
        place: (option: string, next: number) => fill(ranking.place, { option, next }),
        up: (option: string) => fill(ranking.up, { option }),
        down: (option: string) => fill(ranking.down, { option }),
        remove: (option: string) => fill(ranking.remove, { option }),
        moved: (option: string, place: number, all: number) => fill(ranking.moved, { option, place, all }),
        removed: (option: string) => fill(ranking.removed, { option }),
      },
      bestWorst: {
        ...bestWorst,
        isBest: (option: string) => fill(bestWorst.isBest, { option }),
        isWorst: (option: string) => fill(bestWorst.isWorst, { option }),
      },
      highlight: {
        ...highlight,
        marked: (count: number) => (count === 0 ? highlight.none : fill(highlight.marked, { count })),
      },
    },
    judging: {
      ...judging,
      reply: (reply: number, all: number) => fill(judging.reply, { number: reply, all }),
      repliesLeft: (left: number) => (left === 0 ? judging.lastReply : fill(judging.repliesLeft, { count: left })),
    },
    comparison: {
      ...comparison,
      reply: (reply: number) => fill(comparison.reply, { number: reply }),
      answer: (pick: Pick, strength: number | null, points: number) => judged(comparison, pick, strength, points),
    },
    chats: {
      ...chats,
      number: (chat: number, all: number) => fill(chats.number, { number: chat, all }),
      chat: (chat: number) => fill(chats.chat, { number: chat }),
      answer: (pick: Pick, strength: number | null, points: number) => judged(chats, pick, strength, points),
    },
    onboarding: {
      ...onboarding,
      dialog: (index: number, all: number) => fill(onboarding.dialog, { index, all }),
      tries: (left: number) => (left === 1 ? onboarding.lastTry : fill(onboarding.tries, { count: left })),
      progress: (done: number, all: number) => fill(onboarding.progress, { done, count: all }),
      wrongReply: (dialog: number, reply: number, replies: number) =>
        replies === 1 ? fill(onboarding.wrongDialog, { dialog }) : fill(onboarding.wrongReply, { dialog, reply }),
      explanation: (text: string) => fill(onboarding.explanation, { text }),
    },
    screens: {
      ...screens,
      ending: {
        ...screens.ending,
        /** By the server's kind of the ending. */
        titles: screens.ending.titles as Readonly<Record<string, string>>,
        returning: (seconds: number) => fill(screens.ending.returning, { time: time(seconds) }),
      },
    },
  };
}

export type Texts = ReturnType<typeof textsOf>;

export const texts: Texts = textsOf(readLanguage(document));
