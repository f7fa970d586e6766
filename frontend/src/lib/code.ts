/** Finds code in plain text, so that it can be shown in a fixed-width font. Nothing is taken away or interpreted. */

export interface Piece {
  code: boolean;
  text: string;
}

const FENCED = /^```[^\n]*\n[\s\S]*?^```[^\S\n]*$/gm;

/** Cut a text at its ``` blocks, fences included. Joined again, the pieces are the text. */
export function pieces(text: string): Piece[] {
  const found: Piece[] = [];
  let position = 0;
  for (const match of text.matchAll(FENCED)) {
    if (match.index > position) found.push({ code: false, text: text.slice(position, match.index) });
    found.push({ code: true, text: match[0] });
    position = match.index + match[0].length;
  }
  if (position < text.length) found.push({ code: false, text: text.slice(position) });
  return found;
}
