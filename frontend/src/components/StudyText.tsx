import type { ReactElement } from "react";
import { directionOf } from "../lib/direction";
import { texts } from "../texts";

/** A short text of the study's files, such as an option or a question: punctuation stays where it belongs, whatever is around it. */
export function StudyText({ children }: { children: string }): ReactElement {
  return <bdi dir={directionOf(children, texts.direction)}>{children}</bdi>;
}
