import { afterEach, describe, expect, test } from "vitest";
import { Formatter, readLanguage, TEXTS_ID } from "./messages";
import { textsOf } from "./texts";
import arabic from "./texts/ar.json";
import english from "./texts/en.json";
import german from "./texts/de.json";

afterEach(() => {
  document.getElementById(TEXTS_ID)?.remove();
});

function embed(content: string): void {
  const data = document.createElement("script");
  data.type = "application/json";
  data.id = TEXTS_ID;
  data.textContent = content;
  document.head.append(data);
}

describe("the language of the page", () => {
  test("is English where the server has put none into index.html", () => {
    const { language, direction, page } = readLanguage(document);
    expect([language, direction]).toEqual(["en", "ltr"]);
    expect(page).toEqual(english.page);
  });

  test("is what the server has put there, whole", () => {
    embed(JSON.stringify({ language: "ar", direction: "rtl", conversationLanguage: "en", page: arabic.page }));
    const read = readLanguage(document);
    expect([read.language, read.direction, read.conversationLanguage]).toEqual(["ar", "rtl", "en"]);
    expect(read.page).toEqual(arabic.page);
  });

  test("has English where a text is missing, is none, or has other forms than plurals", () => {
    const page = { close: "Zu", header: { turnsLeft: { eins: "x", other: "y" }, rating: 3 }, block: "nichts" };
    embed(JSON.stringify({ language: "de", page }));
    const read = readLanguage(document).page;
    expect(read.close).toBe("Zu");
    expect(read.header).toEqual(english.page.header);
    expect(read.block).toEqual(english.page.block);
  });

  test.each(["{", "null", '{"language": "no tag"}'])("is English when %s can't be read", (content) => {
    embed(content);
    expect(readLanguage(document).language).toBe("en");
    expect(readLanguage(document).page).toEqual(english.page);
  });
});

describe("values in texts", () => {
  test("numbers are written as the language writes them", () => {
    expect(new Formatter("en").fill("{count} characters", { count: 12345 })).toBe("12,345 characters");
    expect(new Formatter("de").fill("{count} Zeichen", { count: 12345 })).toBe("12.345 Zeichen");
  });

  test("the plural form is that of the language", () => {
    const forms = { zero: "0", one: "1", two: "2", few: "few", many: "many", other: "other" };
    const arabicForms = [0, 1, 2, 3, 11, 100].map((count) => new Formatter("ar").fill(forms, { count }));
    expect(arabicForms).toEqual(["0", "1", "2", "few", "many", "other"]);
    expect([0, 1, 2].map((count) => new Formatter("fr").fill({ one: "1", other: "n" }, { count }))).toEqual([
      "1",
      "1",
      "n",
    ]);
  });

  test("a form that a file lacks is the form 'other'", () => {
    expect(new Formatter("pl").fill({ one: "jeden", other: "{count} razy" }, { count: 3 })).toBe("3 razy");
  });

  test("braces in a value are no places", () => {
    expect(new Formatter("en").fill("“{option}”: {place}", { option: "{place}", place: 1 })).toBe("“{place}”: 1");
  });

  test("times are in words, and on a clock", () => {
    const spoken = (language: string): string[] => [0, 1, 60, 90, 120, 121].map(new Formatter(language).time);
    expect(spoken("en")).toEqual([
      "0 seconds",
      "1 second",
      "1 minute",
      "1 minute 30 seconds",
      "2 minutes",
      "2 minutes 1 second",
    ]);
    expect(spoken("de").slice(0, 3)).toEqual(["0 Sekunden", "1 Sekunde", "1 Minute"]);
    expect(new Formatter("en").shortTime(65)).toBe("1:05");
  });

  test("the last turn and the last try have words of their own", () => {
    const texts = textsOf({ language: "de", direction: "ltr", conversationLanguage: "de", page: german.page });
    expect([0, 1, 2].map(texts.header.turnsLeft)).toEqual([
      "letzte Runde",
      "danach noch 1 Runde",
      "danach noch 2 Runden",
    ]);
    expect([1, 2].map(texts.onboarding.tries)).toEqual(["Dies ist Ihr letzter Versuch", "noch 2 Versuche"]);
    expect(texts.comparison.answer("right", 1, 5)).toBe("Antwort 2 ist etwas besser");
  });
});
