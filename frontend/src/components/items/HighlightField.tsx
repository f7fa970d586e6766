import { useMemo, useRef, useState, type KeyboardEvent, type ReactElement } from "react";
import { beginsToTheLeft } from "../../lib/direction";
import { markedWords, piecesOf, readSpans, spansOf } from "../../study/words";
import { texts } from "../../texts";
import type { FieldProps } from "./fields";

/** The reply as words to be marked: one by one, or several by drawing over them; arrow keys move, Space marks. */
export function HighlightField({
  reply,
  entry,
  onEnter,
  describedBy,
}: FieldProps<"highlight"> & { reply: string }): ReactElement {
  const t = texts.study.highlight;
  const pieces = useMemo(() => piecesOf(reply), [reply]);
  const words = useMemo(() => pieces.flatMap((piece, index) => (piece.isWord ? [index] : [])), [pieces]);
  const marked = markedWords(pieces, readSpans(entry));
  const [current, setCurrent] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  /** While the mouse draws: whether it marks, or removes marks. */
  const drawing = useRef<boolean | null>(null);

  const isDisabled = (): boolean => box.current?.closest("fieldset:disabled") != null;
  const set = (index: number, on: boolean): void => {
    const next = new Set(marked);
    if (on) next.add(index);
    else next.delete(index);
    onEnter(spansOf(pieces, next));
  };
  const go = (to: number, on: boolean | null): void => {
    const place = Math.min(Math.max(to, 0), words.length - 1);
    const index = words[place];
    if (index === undefined) return;
    setCurrent(place);
    if (on !== null) set(index, on);
    box.current?.querySelector<HTMLElement>(`[data-word="${place}"]`)?.focus();
  };
  const press = (event: KeyboardEvent, place: number): void => {
    if (isDisabled()) return;
    const index = words[place];
    // Arrows go where they point: the words have the direction of the reply, whatever that of the page is.
    const onwards = beginsToTheLeft(reply) ? -1 : 1;
    const steps: Record<string, number> = { ArrowRight: onwards, ArrowLeft: -onwards, ArrowDown: 5, ArrowUp: -5 };
    const step = steps[event.key];
    if (event.key === "Home" || event.key === "End") go(event.key === "Home" ? 0 : words.length - 1, null);
    else if ((event.key === "Enter" || event.key === " ") && index !== undefined) set(index, !marked.has(index));
    else if (step !== undefined) go(place + step, event.shiftKey && index !== undefined ? true : null);
    else return;
    event.preventDefault();
  };
  return (
    <div className="highlight">
      <p className="item-hint">{t.hint}</p>
      <div
        ref={box}
        className="highlight-text"
        role="group"
        aria-label={t.label}
        aria-describedby={describedBy}
        translate="no"
        dir="auto"
        onPointerLeave={() => {
          drawing.current = null;
        }}
        onPointerUp={() => {
          drawing.current = null;
        }}
      >
        {pieces.map((piece, index) => {
          if (!piece.isWord) return <span key={index}>{piece.text}</span>;
          const place = words.indexOf(index);
          return (
            // No <button>: it would stand in the line as one block, and a phrase of the other direction would fall apart.
            <span
              key={index}
              role="button"
              className="word"
              data-word={place}
              tabIndex={place === Math.min(current, words.length - 1) ? 0 : -1}
              aria-pressed={marked.has(index)}
              onFocus={() => {
                setCurrent(place);
              }}
              onPointerDown={(event) => {
                if (event.pointerType === "mouse" && event.button === 0 && !isDisabled())
                  drawing.current = !marked.has(index);
              }}
              onPointerEnter={() => {
                if (drawing.current !== null) set(index, drawing.current);
              }}
              onPointerLeave={() => {
                // The word at which drawing began is marked when the mouse goes on to the next.
                if (drawing.current !== null) set(index, drawing.current);
              }}
              onClick={() => {
                if (!isDisabled()) set(index, !marked.has(index));
              }}
              onKeyDown={(event) => {
                press(event, place);
              }}
            >
              {piece.text}
            </span>
          );
        })}
      </div>
      <p className="item-hint" role="status">
        {t.marked(marked.size)}
      </p>
      {marked.size > 0 && (
        <button
          type="button"
          className="link-button"
          onClick={() => {
            onEnter([]);
            go(current, null);
          }}
        >
          {t.clear}
        </button>
      )}
    </div>
  );
}
