import type { ReactElement, ReactNode } from "react";
import { pieces } from "../lib/code";
import { HUMAN } from "../protocol";
import { texts } from "../texts";

/**
 * Plain text as it is: nothing in it is read as markup, and no browser translates it, for a machine's translation of a
 * reply is not what the worker is asked to judge.
 */
export function PlainText({ text }: { text: string }): ReactElement {
  return (
    <div className="plain" dir="auto" translate="no" lang={texts.conversationLanguage}>
      {pieces(text).map((piece, index) =>
        piece.code ? (
          <code key={index} className="code" dir="ltr">
            {piece.text}
          </code>
        ) : (
          <span key={index}>{piece.text}</span>
        ),
      )}
    </div>
  );
}

/** Something said, by the worker or by the model. */
export function Bubble({
  agentIdx,
  text,
  quiet = false,
  children,
}: {
  agentIdx: number;
  text: string;
  /** Drawn weaker: not confirmed by the server yet, or said before the worker came. */
  quiet?: boolean;
  children?: ReactNode;
}): ReactElement {
  const own = agentIdx === HUMAN;
  return (
    <div className={`turn ${own ? "own" : "partner"}${quiet ? " quiet" : ""}`}>
      <span className="sr-only">{own ? texts.youSaid : texts.partnerSaid}</span>
      <div className="bubble">
        <PlainText text={text} />
      </div>
      {children}
    </div>
  );
}
