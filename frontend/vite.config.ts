import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  // Relative addresses only: the router may serve the page from any path.
  base: "./",
  plugins: [react()],
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    // Everything is a file of its own, so that a policy of `script-src 'self'` can be set.
    assetsInlineLimit: 0,
  },
  test: {
    environment: "jsdom",
    setupFiles: ["./test/setup.ts"],
    restoreMocks: true,
    // axe takes its time on a busy machine; nothing here tests speed.
    testTimeout: 30_000,
  },
});
