"""What browsers' translation and extensions do to a page while it is used, as scripts for Chromium."""

from __future__ import annotations

FRAME = """(() => {
  const change = CHANGE;
  const start = () => {
    change(document.body);
    new MutationObserver((records) => {
      for (const record of records) {
        if (record.type === "characterData") change(record.target);
        for (const node of record.addedNodes) if (node.isConnected) change(node);
      }
    }).observe(document.body, { childList: true, subtree: true, characterData: true });
  };
  if (document.body === null) document.addEventListener("DOMContentLoaded", start);
  else start();
})();"""
"""Changes the whole page, and from then on whatever comes or changes."""

TRANSLATE = """(root) => {
  const change = (node) => {
    const parent = node.parentElement;
    if (node.nodeType === Node.TEXT_NODE) {
      if (!node.nodeValue.trim() || parent === null || parent.closest("font, script, style, textarea, SKIPPED")) return;
      const outer = document.createElement("font"), inner = document.createElement("font");
      inner.textContent = `«${node.nodeValue}»`;
      outer.append(inner);
      parent.replaceChild(outer, node);
    } else for (const child of [...node.childNodes]) change(child);
  };
  change(root);
}"""
"""As Google Translate does: each text node is replaced by two <font> elements."""

WRAP = """(root) => {
  const tags = "p, li, label, h1, h2, button, fieldset, textarea, section, form";
  if (root.nodeType !== Node.ELEMENT_NODE) return;
  const found = [...root.querySelectorAll(tags), ...(root.matches(tags) ? [root] : [])];
  for (const element of found) {
    if (element.parentElement.matches("x-wrapper")) continue;
    const wrapper = document.createElement("x-wrapper");
    element.replaceWith(wrapper);
    wrapper.append(element);
  }
}"""
"""Extensions that put an element into one of their own."""

INSERT = """(root) => {
  const found = root.nodeType === Node.ELEMENT_NODE ? [root, ...root.querySelectorAll("*")] : [];
  for (const element of found) {
    if (element.matches("body, x-note, svg, svg *, br, input, img, script, textarea, font")) continue;
    if (element.querySelector(":scope > x-note") !== null) continue;
    element.prepend(document.createElement("x-note"));
    element.append(document.createElement("x-note"));
    element.setAttribute("data-gramm", "false");
  }
}"""
"""Extensions such as Grammarly, which put elements and attributes between those of the page."""

MOVE = """(root) => {
  const found = root.nodeType === Node.ELEMENT_NODE ? [...root.querySelectorAll("svg, h2, h3, legend, .lead, .reason")] : [];
  let store = document.querySelector("x-store");
  if (store === null) document.body.append((store = document.createElement("x-store")));
  found.forEach((element, index) => {
    if (element.closest("x-store")) return;
    if (index % 2) element.remove();
    else store.append(element);
  });
}"""
"""Readers and blockers, which take elements away or put them elsewhere."""

CHANGES = {
    # What is marked as not to be translated is left, as browsers do.
    "translated": TRANSLATE.replace("SKIPPED", "[translate=no], .notranslate"),
    "translated whole": TRANSLATE.replace("SKIPPED", "x-nothing"),
    "wrapped": WRAP,
    "with insertions": INSERT,
    "with elements moved": MOVE,
}


def script_of(change: str) -> str:
    """Return the script that makes one of :data:`CHANGES`, for a page of which nothing is there yet."""
    return FRAME.replace("CHANGE", CHANGES[change], 1)
