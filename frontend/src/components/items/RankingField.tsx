import { useEffect, useRef, useState, type ReactElement } from "react";
import { list } from "../../protocol";
import { texts } from "../../texts";
import type { FieldProps } from "./fields";
import { StudyText } from "../StudyText";

/** All options in an order: chosen one after the other, moved by buttons, with the mouse, a finger or the keyboard. */
export function RankingField({ item, entry, onEnter }: FieldProps<"ranking">): ReactElement {
  const t = texts.study.ranking;
  const placed = list(entry).filter((one): one is string => typeof one === "string" && item.options.includes(one));
  const left = item.options.filter((option) => !placed.includes(option));
  const box = useRef<HTMLDivElement>(null);
  const [said, setSaid] = useState("");
  /** Where the focus goes once the lists are drawn anew: the button that had it may be gone. */
  const focusNext = useRef<string | null>(null);
  useEffect(() => {
    if (focusNext.current === null) return;
    const wanted = box.current?.querySelector<HTMLElement>(`[data-focus="${focusNext.current}"]:not(:disabled)`);
    (wanted ?? box.current?.querySelector<HTMLElement>("button:not(:disabled)"))?.focus();
    focusNext.current = null;
  });

  const set = (order: string[], words: string, focus: string): void => {
    setSaid(words);
    focusNext.current = focus;
    onEnter(order);
  };
  const add = (option: string): void => {
    const at = left.indexOf(option);
    const next = left[at + 1] ?? left[at - 1];
    set(
      [...placed, option],
      t.moved(option, placed.length + 1, item.options.length),
      next === undefined ? "up-last" : `add-${item.options.indexOf(next)}`,
    );
  };
  const move = (from: number, to: number): void => {
    const order = [...placed];
    const [option] = order.splice(from, 1);
    if (option === undefined) return;
    order.splice(to, 0, option);
    const which = to < from ? "up" : "down";
    const atEnd = which === "up" ? to === 0 : to === order.length - 1;
    const button = atEnd ? (which === "up" ? "down" : "up") : which;
    set(order, t.moved(option, to + 1, item.options.length), `${button}-${item.options.indexOf(option)}`);
  };
  return (
    <div className="ranking" ref={box}>
      <p className="item-hint">{t.hint}</p>
      {placed.length > 0 && (
        <ol className="ranked" aria-label={t.placed}>
          {placed.map((option, index) => {
            const number = item.options.indexOf(option);
            return (
              <li key={option} className="ranked-row">
                <span className="rank" aria-hidden="true" translate="no">
                  {texts.number(index + 1)}
                </span>
                <span className="ranked-option">
                  <StudyText>{option}</StudyText>
                </span>
                <span className="ranked-buttons">
                  <button
                    type="button"
                    className="icon-button"
                    data-focus={`up-${number}`}
                    aria-label={t.up(option)}
                    disabled={index === 0}
                    onClick={() => {
                      move(index, index - 1);
                    }}
                  >
                    <span aria-hidden="true">↑</span>
                  </button>
                  <button
                    type="button"
                    className="icon-button"
                    data-focus={`down-${number}`}
                    aria-label={t.down(option)}
                    disabled={index === placed.length - 1}
                    onClick={() => {
                      move(index, index + 1);
                    }}
                  >
                    <span aria-hidden="true">↓</span>
                  </button>
                  <button
                    type="button"
                    className="icon-button"
                    aria-label={t.remove(option)}
                    onClick={() => {
                      set(
                        placed.filter((other) => other !== option),
                        t.removed(option),
                        `add-${number}`,
                      );
                    }}
                  >
                    <span aria-hidden="true">×</span>
                  </button>
                </span>
              </li>
            );
          })}
        </ol>
      )}
      {left.length > 0 && (
        <ul className="unranked" aria-label={t.left}>
          {left.map((option) => (
            <li key={option}>
              <button
                type="button"
                className="unranked-option"
                data-focus={`add-${item.options.indexOf(option)}`}
                aria-label={t.place(option, placed.length + 1)}
                onClick={() => {
                  add(option);
                }}
              >
                <StudyText>{option}</StudyText>
              </button>
            </li>
          ))}
        </ul>
      )}
      <p className="sr-only" role="status">
        {said}
      </p>
    </div>
  );
}
