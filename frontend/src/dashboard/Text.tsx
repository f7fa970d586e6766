import type { ReactElement } from "react";
import { exactly, when } from "./format";
import { plain, reveal } from "./reveal";

function Revealed({ text }: { text: string }): ReactElement {
  return (
    <>
      {reveal(text).map((part, index) =>
        part.hidden ? (
          <span key={index} className="hidden-character" title="A character that is not shown or changes the order">
            {part.text}
          </span>
        ) : (
          <span key={index}>{part.text}</span>
        ),
      )}
    </>
  );
}

/** A name that somebody else chose: of a worker, a model, a file. Its direction stays within it; a long one is cut after three lines. */
export function Name({ text }: { text: string }): ReactElement {
  return (
    <bdi className="name" title={text.length > 60 ? plain(text.slice(0, 2000)) : undefined} translate="no">
      <Revealed text={text} />
    </bdi>
  );
}

/** What a person or a model wrote: plain text, line breaks as they are. */
export function Written({ text }: { text: string }): ReactElement {
  return (
    <div className="written" dir="auto" translate="no">
      <Revealed text={text} />
    </div>
  );
}

export function Time({ at, now }: { at: number | null; now?: number }): ReactElement {
  if (at === null) return <span>–</span>;
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={exactly(at)}>
      {when(at, now)}
    </time>
  );
}
