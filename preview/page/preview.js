// The preview's bar: links to the parts of the study, what is wrong with its files, and a reload when they have changed.
(() => {
  const TEXTS = { chat: "Chat", onboarding: "Onboarding", "": "As seen before accepting" };
  let version = null;
  const host = document.createElement("aside");
  host.setAttribute("aria-label", "Preview");
  // Below the page and not upon it: what it covered could not be pressed.
  Object.assign(document.body.style, { display: "flex", flexDirection: "column" });
  Object.assign(document.getElementById("root").style, { flex: "1", height: "auto", minHeight: "0" });
  const bar = host.attachShadow({ mode: "open" });
  const styles = new CSSStyleSheet();
  styles.replaceSync(`
    section { font: 13px/1.5 system-ui, sans-serif; background: #1f2937; color: #fff; padding: .4rem .8rem;
          display: flex; flex-wrap: wrap; gap: .2rem .9rem; align-items: baseline; justify-content: flex-end }
    a { color: #bfdbfe }
    div { width: 100% }
    ul { margin: 0; padding-left: 1.1rem; color: #fecaca; overflow-wrap: anywhere }`);
  bar.adoptedStyleSheets = [styles];
  bar.innerHTML = '<section><strong>Preview, nothing is saved</strong><div role="alert"></div></section>';
  const box = bar.querySelector("section"), faults = bar.querySelector("div");
  const params = new URLSearchParams(window.location.search);
  const addressOf = (worker, part) => `./?worker_id=${encodeURIComponent(worker)}&assignment_id=${part}`;
  // A worker of whom the server knows nothing has everything before them.
  const newWorker = () => `preview-${Math.random().toString(36).slice(2)}`;

  function addLink(text, address) {
    const link = document.createElement("a");
    link.textContent = text;
    link.href = address;
    box.insertBefore(link, faults);
  }

  function showLinks(parts) {
    for (const part of parts) {
      // The link to the onboarding leads to it, also when it has been passed.
      const worker = part === "onboarding" ? newWorker() : (params.get("worker_id") ?? "preview");
      addLink(TEXTS[part], part === "" ? "./" : addressOf(worker, part));
    }
    addLink("Start over", addressOf(newWorker(), params.get("assignment_id") ?? parts[0]));
  }

  async function look() {
    try {
      const state = await (await fetch("preview_state.json")).json();
      if (version === null) showLinks(state.parts);
      else if (state.version !== version) return window.location.reload();
      version = state.version;
      if (faults.textContent !== state.faults.join("")) {
        const list = document.createElement("ul");
        list.append(...state.faults.map((text) => {
          const item = document.createElement("li");
          item.textContent = text;
          return item;
        }));
        faults.replaceChildren(...(state.faults.length > 0 ? [list] : []));
      }
    } catch { /* the preview has been stopped, or starts again */ }
  }

  document.body.append(host);
  setInterval(look, 500);
  look();
})();
