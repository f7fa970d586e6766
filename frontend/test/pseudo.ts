/** Texts without a Latin letter: what is still in English on a page of them comes from no file of texts. */

import english from "../src/texts/en.json";

const LETTER = "ж";

/** A text with every letter replaced; places for values stay. */
export function disguised(text: string): string {
  return text.replace(/\{\w+\}|[A-Za-z]/g, (found) => (found.length > 1 ? found : LETTER));
}

/** Keys whose values are no texts. */
const NAMES = new Set(["value", "kind", "id", "ask", "outcome", "cause", "control", "page", "item", "ties"]);

/** A value with all its texts replaced, as a requester would who writes their study in another script. */
export function disguise<T>(value: T, key = ""): T {
  if (typeof value === "string") return (NAMES.has(key) ? value : disguised(value)) as T;
  if (Array.isArray(value)) return value.map((one: unknown) => disguise(one)) as T;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, disguise(one as unknown, name)])) as T;
}

export const PSEUDO = {
  language: "uk",
  direction: "rtl",
  conversationLanguage: "uk",
  page: disguisedPage(english.page),
};

function disguisedPage<T>(value: T): T {
  if (typeof value === "string") return disguised(value) as T;
  return Object.fromEntries(
    Object.entries(value as Record<string, unknown>).map(([key, one]) => [key, disguisedPage(one)]),
  ) as T;
}

const ATTRIBUTES = [
  "aria-label",
  "aria-description",
  "aria-valuetext",
  "aria-roledescription",
  "title",
  "alt",
  "placeholder",
];

/** Every text with Latin letters that somebody sees or hears. */
export function latinTexts(root: Element): string[] {
  const found: string[] = [];
  const note = (text: string | null): void => {
    if (text !== null && /[A-Za-z]/.test(text)) found.push(text.trim());
  };
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) note(walker.currentNode.nodeValue);
  for (const element of [root, ...root.querySelectorAll("*")]) {
    for (const name of ATTRIBUTES) note(element.getAttribute(name));
  }
  return found;
}
