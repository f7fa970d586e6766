import type { ReactElement, ReactNode } from "react";
import { HUMAN } from "../protocol";
import { texts } from "../texts";
import { PlainText } from "./PlainText";
import { Reply } from "./Reply";

/** Something said, by the worker or by the model. */
export function Bubble({
  agentIdx,
  text,
  quiet = false,
  growing = false,
  judging = false,
  children,
}: {
  agentIdx: number;
  text: string;
  /** Drawn weaker: not confirmed by the server yet, or said before the worker came. */
  quiet?: boolean;
  /** More of it is to come. */
  growing?: boolean;
  /** The worker is neither of the two. */
  judging?: boolean;
  children?: ReactNode;
}): ReactElement {
  const own = agentIdx === HUMAN;
  return (
    <div className={`turn ${own ? "own" : "partner"}${quiet ? " quiet" : ""}`}>
      <span className="sr-only">{own ? (judging ? texts.judging.personSaid : texts.youSaid) : texts.partnerSaid}</span>
      <div className="bubble">{own ? <PlainText text={text} /> : <Reply text={text} growing={growing} />}</div>
      {children}
    </div>
  );
}
