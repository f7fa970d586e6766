/**
 * Markdown of a model's reply as harmless HTML: what `reply_format=markdown` shows. A chunk of its own, which only pages of such
 * studies load (`replyRenderer.ts`).
 *
 * markdown-it reads CommonMark, tables and strikethrough, with HTML off; DOMPurify lets only the elements and attributes
 * through that are made here. Nothing that a model has written is hidden from who judges it: what would have no visible
 * form (HTML, images, addresses, reference definitions) is shown as text.
 */

import createPurifier from "dompurify";
import MarkdownIt, { type MarkdownIt as Parser, type Token } from "markdown-it";
import "../markdown.css";
import { texts } from "../texts";
import { highlighted } from "./highlight";
import { isBlank } from "./visibleText";

/** Code units; a longer reply is shown as plain text. */
export const LONGEST_MARKDOWN = 20_000;
/** Code units of the HTML of one reply: a few characters can make a table of many thousand cells. */
export const LONGEST_HTML = 512 * 1024;
/** Levels of block elements; a list is two. markdown-it leaves out what is nested deeper. */
export const MAX_NESTING = 24;
/** Addresses in the text that become links without being marked as one; looking for more takes long. */
const MOST_BARE_LINKS = 200;

const { escapeHtml } = new MarkdownIt().utils;

/** Render a reply as HTML, one piece for each of its blocks; null where it has to be shown as plain text. */
export function renderMarkdown(text: string, links: boolean): readonly string[] | null {
  if (text.length > LONGEST_MARKDOWN) return null;
  const parser = links ? CLICKABLE : PLAIN;
  parser.set({ linkify: links && text.split("://", MOST_BARE_LINKS + 2).length <= MOST_BARE_LINKS + 1 });
  const tokens = parser.parse(text, {});
  if (tokens.some((token) => token.level >= MAX_NESTING - 1)) return null;
  setAttributes(tokens);
  const blocks = topLevel(tokens).map((block) => parser.renderer.render(block, parser.options, {}));
  if (blocks.reduce((length, html) => length + html.length, 0) > LONGEST_HTML) return null;
  const clean = sanitised(blocks);
  return isBlank(clean.textContent) ? null : Array.from(clean.children, (block) => block.innerHTML);
}

/** The tokens of each block that is not inside another. */
function topLevel(tokens: readonly Token[]): Token[][] {
  const blocks: Token[][] = [];
  let block: Token[] = [];
  for (const token of tokens) {
    block.push(token);
    if (token.level === 0 && token.nesting !== 1) {
      blocks.push(block);
      block = [];
    }
  }
  return blocks;
}

const ALIGNED = /text-align:(left|center|right)/;

/** Directions of texts, levels of headings, and classes in the place of styles. */
function setAttributes(tokens: readonly Token[]): void {
  let above = 2;
  for (const token of tokens) {
    if (token.nesting === 0) continue;
    if (token.type === "heading_open") {
      token.attrSet("class", `size-${token.tag.slice(1)}`);
      above = Math.min(6, above + 1, Number(token.tag.slice(1)) + 2);
    }
    // Below the headings of the page, and no level left out, whatever the reply begins with.
    if (token.tag.startsWith("h")) token.tag = `h${above}`;
    if (token.nesting === 1 && /^(h\d|p|li)$/.test(token.tag)) token.attrSet("dir", "auto");
    const aligned = ALIGNED.exec(String(token.attrGet("style") ?? ""))?.[1];
    if (aligned !== undefined) token.attrs = [["class", aligned]];
  }
}

// --- reading ---

const PLAIN = makeParser(false);
const CLICKABLE = makeParser(true);

function makeParser(links: boolean): Parser {
  const parser = new MarkdownIt({ html: false, breaks: true, maxNesting: MAX_NESTING });
  // Definitions of references have no visible form, so what they say would be hidden.
  parser.disable("reference");
  // Each address is read, for the text of what it belongs to; `isAddress` decides which can be followed.
  parser.validateLink = () => true;
  // As it was written: a decoded address can look like another one.
  parser.normalizeLinkText = (address) => address;
  parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
  for (const schema of ["ftp:", "mailto:", "//"]) parser.linkify.add(schema, null);

  const { rules } = parser.renderer;
  rules.image = (tokens, index) => image(tokens[index]);
  rules.link_open = (tokens, index) => openingOf(tokens, index, links);
  rules.link_close = (tokens, index) => closingOf(tokens, index, links);
  rules.fence = (tokens, index) => code(tokens[index]);
  rules.code_block = (tokens, index) => code(tokens[index]);
  rules.table_open = () => '<div class="wide"><table>\n';
  rules.table_close = () => "</table></div>\n";
  return parser;
}

// --- writing ---

function image(token: Token | undefined): string {
  const alt = plainText(token?.children ?? []);
  return `<span class="image">${escapeHtml(texts.log.image(alt))}</span>`;
}

function plainText(tokens: readonly Token[]): string {
  return tokens
    .map((token) => {
      if (token.type === "image") return texts.log.image(plainText(token.children ?? []));
      return token.type === "softbreak" || token.type === "hardbreak" ? " " : token.content;
    })
    .join("");
}

/** Whether it can be followed. A name before the host (`https://bank.example@evil.example`) is there to deceive. */
function isAddress(address: string): boolean {
  return /^https?:\/\/[^/?#\s@\\]+(?:[/?#]|$)/i.test(address);
}

/** What people take for an address: a scheme, a name or four numbers with dots, or what looks like one, or this machine. */
const LIKE_ADDRESS =
  /:\/\/|[\p{L}\p{N}][.\u2024\u3002\ufe52\uff0e\uff61](?:\p{M}*\p{L}{2}|\p{N}+(?:\.\p{N}+){2})|\blocalhost\b/iu;
/** What is not seen, or turns the direction of writing: no text with it shows where it leads. */
const DECEPTIVE = /[\p{Cf}\p{Default_Ignorable_Code_Point}]/u;

function addressOf(token: Token | undefined): string {
  return String(token?.attrGet("href") ?? "");
}

function openingOf(tokens: readonly Token[], index: number, links: boolean): string {
  const address = addressOf(tokens[index]);
  if (!links || !isAddress(address)) return '<span class="link">';
  return `<a href="${escapeHtml(address)}" target="_blank" rel="noopener noreferrer nofollow">`;
}

function closingOf(tokens: readonly Token[], index: number, links: boolean): string {
  const opening = tokens.findLastIndex((token, before) => before < index && token.type === "link_open");
  const token = tokens[opening];
  const address = addressOf(token);
  const label = plainText(tokens.slice(opening + 1, index));
  const followed = links && isAddress(address);
  const end = followed ? "</a>" : "</span>";
  // Who can click sees the address before they do, unless the text itself pretends to be one, or shows nothing.
  const told =
    !DECEPTIVE.test(label) &&
    (token?.info === "auto" || label === address || (followed && !LIKE_ADDRESS.test(label) && !isBlank(label)));
  return told ? end : `${end} <span class="address">(${escapeHtml(address)})</span>`;
}

function code(token: Token | undefined): string {
  if (token === undefined) return "";
  const info = token.info.trim();
  const caption = info === "" ? "" : `<div class="info">${escapeHtml(info)}</div>`;
  const content = highlighted(token.content, info.split(/\s/, 1)[0] ?? "") ?? escapeHtml(token.content);
  return `<div class="listing" dir="ltr">${caption}<pre class="wide"><code>${content}</code></pre></div>\n`;
}

// --- making harmless ---

const ELEMENTS =
  "a blockquote br code div em h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th thead tr ul".split(" ");
const ATTRIBUTES = ["class", "dir", "href", "rel", "start", "target"];

const purifier = createPurifier(window);

/** One element for each block. */
function sanitised(blocks: readonly string[]): DocumentFragment {
  return purifier.sanitize(blocks.map((html) => `<div>${html}</div>`).join(""), {
    ALLOWED_TAGS: ELEMENTS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOWED_URI_REGEXP: /^https?:\/\//i,
    ADD_URI_SAFE_ATTR: ["dir", "rel", "start", "target"], // values of these are no addresses
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
}
