import { useMemo, type ReactElement } from "react";
import { fillPane } from "../lib/sanitise";

const NO_PERSONA: readonly string[] = [];

/** HTML of the requester, sanitised; with the worker's persona lines filled in where it has places for them. */
export function RichHtml({
  html,
  personas = NO_PERSONA,
}: {
  html: string;
  personas?: readonly string[];
}): ReactElement {
  const clean = useMemo(() => ({ __html: fillPane(html, personas) }), [html, personas]);
  return <div className="rich" dangerouslySetInnerHTML={clean} />;
}
