/** Finds what changes the order in which a text is shown, or is not shown at all, so that it can be made visible. */

export interface Part {
  hidden: boolean;
  text: string;
}

/** Overrides, embeddings and isolates of the direction of text; control characters but tab and line breaks. */
// eslint-disable-next-line no-control-regex -- they are what is looked for
const HIDDEN = /[\u202A-\u202E\u2066-\u2069\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F]/gu;

/** Cut a text at such characters; each becomes its name, such as `U+202E`. */
export function reveal(text: string): Part[] {
  const parts: Part[] = [];
  let position = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > position) parts.push({ hidden: false, text: text.slice(position, match.index) });
    parts.push({ hidden: true, text: `U+${match[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}` });
    position = match.index + match[0].length;
  }
  if (position < text.length) parts.push({ hidden: false, text: text.slice(position) });
  return parts;
}

/** The text with such characters replaced by their names, where no element can hold them: in attributes, options, charts. */
export function plain(text: string): string {
  return reveal(text)
    .map((part) => (part.hidden ? `[${part.text}]` : part.text))
    .join("");
}
