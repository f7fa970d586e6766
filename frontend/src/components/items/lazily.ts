/** The parts of the page that only a study flow needs; they come with a file of their own, when they are first shown. */

import { lazy } from "react";

export const PageScreen = lazy(() => import("./PageScreen"));
export const ReplyItems = lazy(() => import("./ReplyItems"));

/** Fetch them before they are needed. */
export function preload(): void {
  for (const part of [import("./PageScreen"), import("./ReplyItems")]) part.catch(() => undefined);
}
