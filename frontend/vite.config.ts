import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";
import english from "./src/texts/en.json" with { type: "json" };

const { language, page } = english;
const { title, text, noScript } = page.screens.beforeScript;
const INDEX_TEXTS: Record<string, string> = {
  language,
  title: page.defaultTitle,
  heading: title,
  text,
  noScript,
};

/**
 * Fills in the texts of index.html, which is read before any script runs, from where all texts are. The server replaces them
 * where the study is in another language (`data-text` says by which).
 */
const indexTexts = {
  name: "model-chat-index-texts",
  transformIndexHtml: (html: string): string =>
    html.replace(/%(\w+)%/g, (place, name: string) => escapeHtml(INDEX_TEXTS[name] ?? place)),
};

function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

/**
 * The requester's dashboard (`vite build --mode dashboard`) is bundled by itself: what both pages use is in each of them,
 * so that a change of the dashboard changes no byte of what workers load. All its files have a name that begins with
 * "dashboard"; the server leaves them out of what it serves to workers.
 */
const dashboardBuild = {
  emptyOutDir: false,
  copyPublicDir: false,
  assetsDir: "assets/dashboard",
  rolldownOptions: { input: "dashboard.html" },
};

export default defineConfig(({ mode }) => ({
  // Relative addresses only: the router may serve the page from any path.
  base: "./",
  plugins: [react(), indexTexts],
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    // Everything is a file of its own, so that a policy of `script-src 'self'` can be set.
    assetsInlineLimit: 0,
    ...(mode === "dashboard" ? dashboardBuild : {}),
  },
  test: {
    environment: "jsdom",
    setupFiles: ["./test/setup.ts"],
    restoreMocks: true,
    // axe takes its time on a busy machine; nothing here tests speed.
    testTimeout: 120_000,
  },
}));
