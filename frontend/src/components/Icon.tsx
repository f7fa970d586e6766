import type { ReactElement } from "react";

const PATHS = {
  info: "M12 11v5.5M12 7.6v.1M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  check: "M5 12.5l4.5 4.5L19 7.5",
  done: "M8 12.3l2.8 2.8L16 9.5M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  clock: "M12 7.5V12l3 2M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  close: "M6 6l12 12M18 6L6 18",
  send: "M5 12h13M12.5 6l6 6-6 6",
  soundOn: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5H4zM15.5 9a4.2 4.2 0 0 1 0 6M18 6.5a7.8 7.8 0 0 1 0 11",
  soundOff: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5H4zM16 9.8l4.5 4.5M20.5 9.8L16 14.3",
  book: "M5 5.5A1.5 1.5 0 0 1 6.5 4H12v16H6.5A1.5 1.5 0 0 1 5 18.5v-13zM12 4h5.5A1.5 1.5 0 0 1 19 5.5v13a1.5 1.5 0 0 1-1.5 1.5H12",
  panel:
    "M4 6.5A1.5 1.5 0 0 1 5.5 5h13A1.5 1.5 0 0 1 20 6.5v11a1.5 1.5 0 0 1-1.5 1.5h-13A1.5 1.5 0 0 1 4 17.5v-11zM9.5 5v14",
  zoom: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.3 15.3L20 20M10.5 8v5M8 10.5h5",
  down: "M12 5v13M6 12.5l6 6 6-6",
  up: "M12 19V6M6 11.5l6-6 6 6",
  offline:
    "M4 4l16 16M8.6 15.4a5 5 0 0 1 6.3-.5M5.5 12a9.5 9.5 0 0 1 4-2.3M13.5 9.3c1.9.3 3.6 1.2 5 2.7M2.5 8.7a14 14 0 0 1 3.6-2.4M10 5.1c4.2-.5 8.4.8 11.5 3.6M12 19v.1",
  screen:
    "M4 6.5A1.5 1.5 0 0 1 5.5 5h13A1.5 1.5 0 0 1 20 6.5v8a1.5 1.5 0 0 1-1.5 1.5h-13A1.5 1.5 0 0 1 4 14.5v-8zM9 20h6M12 16v4",
  away: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM8 12h8",
  warning:
    "M12 9.5v4M12 16.6v.1M10.7 4.8L3.4 17.4A1.5 1.5 0 0 0 4.7 19.7h14.6a1.5 1.5 0 0 0 1.3-2.3L13.3 4.8a1.5 1.5 0 0 0-2.6 0z",
  chat: "M7 5h10a3 3 0 0 1 3 3v6a3 3 0 0 1-3 3h-5l-4.5 3.5V17H7a3 3 0 0 1-3-3V8a3 3 0 0 1 3-3z",
} as const;

export type IconName = keyof typeof PATHS;

/** Drawings that are mirrored where the page is written from right to left. */
const DIRECTED: ReadonlySet<IconName> = new Set(["send", "panel", "soundOn", "soundOff", "book"]);

/** A line drawing; the words beside it say what it means. */
export function Icon({ name, className = "" }: { name: IconName; className?: string }): ReactElement {
  return (
    <svg
      className={`icon ${DIRECTED.has(name) ? "directed " : ""}${className}`}
      viewBox="0 0 24 24"
      aria-hidden="true"
      focusable="false"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
