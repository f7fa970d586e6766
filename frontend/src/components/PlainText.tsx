import type { ReactElement } from "react";
import { pieces } from "../lib/code";
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
