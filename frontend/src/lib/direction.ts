/** Letters of scripts that are written from right to left (Hebrew, Arabic, Syriac, Thaana, N'Ko, Adlam and their forms). */
const TO_THE_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]|\ud83a[\udd00-\udd5f]/;

/**
 * The direction of a study's own text on a page: its own where all of it is of one direction ("C++" on an Arabic page), and
 * that of the page where it is mixed, whatever it begins with: "GPT-4 أفضل" is Arabic with a name in it.
 */
export function directionOf(text: string, page: string): "ltr" | "rtl" | "auto" {
  const isMixed = TO_THE_LEFT.test(text) && /\p{L}/u.test(text.replace(new RegExp(TO_THE_LEFT, "g"), ""));
  return !isMixed ? "auto" : page === "rtl" ? "rtl" : "ltr";
}

/** Whether a text with `dir="auto"` is written from right to left: its first letter is of such a script. */
export function beginsToTheLeft(text: string): boolean {
  return TO_THE_LEFT.test(/\p{L}/u.exec(text)?.[0] ?? "");
}
