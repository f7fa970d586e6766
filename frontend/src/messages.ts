/** Texts with places for values, in the language of the page. Numbers, plurals and times are those of `Intl`. */

import { language as englishTag, page as englishPage } from "./texts/en.json";

/** A text; or one for each plural form of `{count}` (the categories of Unicode's CLDR), at least `other`. */
export type Message = string | (Partial<Record<Intl.LDMLPluralRule, string>> & { other: string });

export type PageTexts = typeof englishPage;

export interface Language {
  /** A BCP 47 tag, such as `de`. */
  language: string;
  direction: "ltr" | "rtl";
  /** Of the replies and of the worker's own messages, which browsers are told not to translate. */
  conversationLanguage: string;
  page: PageTexts;
}

export const TEXTS_ID = "model-chat-texts";

const ENGLISH: Language = {
  language: englishTag,
  direction: "ltr",
  conversationLanguage: englishTag,
  page: englishPage,
};

/**
 * The language that the server has put into index.html: whole, with English where the language lacks a text. Without it,
 * or if it can't be read, the page is in English.
 */
export function readLanguage(document: Document): Language {
  const embedded = document.getElementById(TEXTS_ID)?.textContent ?? "";
  if (embedded === "") return ENGLISH;
  try {
    const given = JSON.parse(embedded) as Partial<Language>;
    return {
      language: validTag(given.language) ?? ENGLISH.language,
      direction: given.direction === "rtl" ? "rtl" : "ltr",
      conversationLanguage: validTag(given.conversationLanguage) ?? validTag(given.language) ?? ENGLISH.language,
      page: over(englishPage, given.page),
    };
  } catch {
    return ENGLISH;
  }
}

function validTag(tag: unknown): string | undefined {
  try {
    return typeof tag === "string" ? Intl.getCanonicalLocales(tag)[0] : undefined;
  } catch {
    return undefined;
  }
}

/** `given` where it has the shape of `standard`; messages are taken whole. */
function over<T>(standard: T, given: unknown): T {
  if (isMessage(standard)) return isMessage(given) ? (given as T) : standard;
  if (typeof standard !== "object" || standard === null) return standard;
  const own = typeof given === "object" && given !== null ? (given as Record<string, unknown>) : {};
  return Object.fromEntries(Object.entries(standard).map(([key, value]) => [key, over(value, own[key])])) as T;
}

function isMessage(value: unknown): value is Message {
  return (
    typeof value === "string" ||
    (typeof value === "object" &&
      value !== null &&
      typeof (value as { other?: unknown }).other === "string" &&
      Object.keys(value).every((key) => PLURALS.has(key)) &&
      Object.values(value).every((form) => typeof form === "string"))
  );
}

const PLURALS: ReadonlySet<string> = new Set(["zero", "one", "two", "few", "many", "other"]);

/** Fills messages with values and formats numbers as a language does. */
export class Formatter {
  private readonly plurals: Intl.PluralRules;
  private readonly numbers: Intl.NumberFormat;
  private readonly clock: Intl.NumberFormat;
  private readonly units: Record<"minute" | "second", Intl.NumberFormat>;
  private readonly joined: Intl.ListFormat;

  constructor(language: string) {
    this.plurals = new Intl.PluralRules(language);
    this.numbers = new Intl.NumberFormat(language);
    this.clock = new Intl.NumberFormat(language, { minimumIntegerDigits: 2 });
    const unit = (name: string): Intl.NumberFormat =>
      new Intl.NumberFormat(language, { style: "unit", unit: name, unitDisplay: "long" });
    this.units = { minute: unit("minute"), second: unit("second") };
    this.joined = new Intl.ListFormat(language, { type: "unit", style: "narrow" });
  }

  number = (value: number): string => this.numbers.format(value);

  /** The sign before the fraction of a number: a comma, or whatever is read as a point. */
  get decimal(): "," | "." {
    return this.numbers.formatToParts(0.5).some(({ type, value }) => type === "decimal" && value === ",") ? "," : ".";
  }

  /** A message with its values; `{count}` decides the plural form. */
  fill = (message: Message, values: Readonly<Record<string, string | number>> = {}): string => {
    const { count } = values;
    const form =
      typeof message === "string"
        ? message
        : ((typeof count === "number" ? message[this.plurals.select(count)] : undefined) ?? message.other);
    return form.replace(/\{(\w+)\}/g, (place, name: string) => {
      const value = values[name];
      return value === undefined ? place : typeof value === "number" ? this.number(value) : value;
    });
  };

  /** 90 → "1 minute 30 seconds". */
  time = (seconds: number): string => {
    const minutes = Math.floor(seconds / 60);
    const rest = seconds % 60;
    return this.joined.format([
      ...(minutes > 0 ? [this.units.minute.format(minutes)] : []),
      ...(rest > 0 || minutes === 0 ? [this.units.second.format(rest)] : []),
    ]);
  };

  /** 90 → "1:30". */
  shortTime = (seconds: number): string =>
    `${this.number(Math.floor(seconds / 60))}:${this.clock.format(seconds % 60)}`;
}
