/** Number keys as shortcuts for what is on the page. */

/** As many choices have a number key. */
export const HIGHEST_KEY = 9;

/** Inputs that take no text. */
const WITHOUT_TEXT = new Set(["checkbox", "radio", "button", "submit", "reset", "file", "image", "range", "color"]);

export type KeyPress = Pick<
  KeyboardEvent,
  "key" | "code" | "shiftKey" | "ctrlKey" | "altKey" | "metaKey" | "repeat" | "isComposing"
>;

/** The number, 1 to 9, whose key was pressed; null for any other key and with modifiers. */
export function numberOf(press: KeyPress): number | null {
  if (press.ctrlKey || press.altKey || press.metaKey || press.repeat || press.isComposing) return null;
  if (/^[1-9]$/.test(press.key)) return Number(press.key);
  // On a French keyboard the row of numbers gives other signs without Shift.
  const row = /^Digit([1-9])$/.exec(press.code);
  return row !== null && !press.shiftKey ? Number(row[1]) : null;
}

/** Whether keys that are pressed there write text. */
export function takesText(target: EventTarget | null | undefined): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !WITHOUT_TEXT.has(target.type);
  // `isContentEditable` is unknown to jsdom.
  return target.closest("textarea, select, [contenteditable]:not([contenteditable='false'])") !== null;
}
