/** Texts that share their element with something else: what a translation puts in their place would stay for ever. */
export function textsWithSiblings(container: Element): string[] {
  const walker = document.createTreeWalker(container, NodeFilter.SHOW_TEXT);
  const found: string[] = [];
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (walker.currentNode.nodeValue?.trim() === "") continue; // nothing to translate, and never changed
    // The HTML of the requester and of Markdown replies is set as a whole.
    if (parent === null || parent.closest(".rich, .markdown") !== null || parent.childNodes.length === 1) continue;
    found.push(parent.outerHTML);
  }
  return found;
}
