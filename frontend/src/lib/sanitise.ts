/** The requester's HTML, made harmless, and the persona lines filled into it. */

import createPurifier from "dompurify";

const purifier = createPurifier(window);

purifier.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A" && node.hasAttribute("href")) {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
});

/** Nothing that runs, restyles the page around it, or takes input that would go nowhere. */
const FORBIDDEN = ["style", "form", "input", "button", "textarea", "select", "option", "dialog"];

export function sanitise(html: string): string {
  return purifier.sanitize(html, { USE_PROFILES: { html: true }, FORBID_TAGS: FORBIDDEN, FORBID_ATTR: ["id", "name"] });
}

const PERSONA = /\[persona_string_([12])\]/g;

/**
 * Sanitise a side pane and fill in the persona lines, as text. Without a persona their places go away, together with the
 * paragraph or list item that held nothing else.
 */
export function fillPane(html: string, personas: readonly string[]): string {
  const holder = document.createElement("div");
  holder.innerHTML = sanitise(html);
  const walker = document.createTreeWalker(holder, NodeFilter.SHOW_TEXT);
  const places: Node[] = [];
  while (walker.nextNode()) {
    PERSONA.lastIndex = 0;
    if (PERSONA.test(walker.currentNode.nodeValue ?? "")) places.push(walker.currentNode);
  }
  for (const place of places) {
    const filled = (place.nodeValue ?? "").replace(PERSONA, (_, which: string) => personas[Number(which) - 1] ?? "");
    place.nodeValue = filled;
    if (filled.trim() === "") removeEmptied(place, holder);
  }
  return holder.innerHTML;
}

function removeEmptied(place: Node, holder: Node): void {
  let node: Node = place;
  while (node.parentNode !== null && node.parentNode !== holder && isBlank(node.parentNode)) node = node.parentNode;
  node.parentNode?.removeChild(node);
}

function isBlank(node: Node): boolean {
  return (node.textContent ?? "").trim() === "" && !(node as Element).querySelector("img, video, audio, hr");
}
