import { useId, useLayoutEffect, useRef, useState, type ReactElement, type RefObject } from "react";
import { HIGHEST_KEY, numberOf, takesText } from "../lib/keys";
import type { AnnotationConfig, Bucket } from "../protocol";
import { texts } from "../texts";
import { useMedia } from "./hooks";
import { Icon } from "./Icon";
import { StudyText } from "./StudyText";

/** The boxes for one reply, each with its description behind a button. */
export function AnnotationBoxes({
  config,
  ticked,
  onTick,
  disabled = false,
  missing = false,
  empty = false,
  keys = "inside",
  testId = "annotation",
  about = "",
}: {
  config: AnnotationConfig;
  ticked: readonly string[];
  onTick: (value: string, on: boolean) => void;
  disabled?: boolean;
  /** Drawn as what still has to be done. */
  missing?: boolean;
  /** No box is ticked. */
  empty?: boolean;
  /** Whether number keys tick boxes on the whole page, or only with the focus in here: there may be several groups. */
  keys?: "page" | "inside";
  testId?: string;
  /** Which reply the boxes are for, said to screen readers where there are several groups. */
  about?: string;
}): ReactElement {
  const id = useId();
  const group = useRef<HTMLFieldSetElement>(null);
  useNumberKeys(group, keys === "page" && !disabled);
  const [open, setOpen] = useState<readonly string[]>([]);
  const narrow = useMedia("(max-width: 559px)");
  // One box a line: its description stands right under it. Several on a line: the descriptions stand under all of them.
  const onePerLine = config.show_line_breaks || narrow;
  const toggle = (value: string): void => {
    setOpen(open.includes(value) ? open.filter((other) => other !== value) : [...open, value]);
  };
  const description = (bucket: Bucket, index: number): ReactElement | null =>
    bucket.description === "" ? null : (
      <p
        key={bucket.value}
        id={`${id}-${index}`}
        className="bucket-description"
        hidden={!open.includes(bucket.value)}
        ref={open.at(-1) === bucket.value ? showNearest : undefined}
      >
        <strong>
          <StudyText>{bucket.name}</StudyText>
          <span>:</span>
        </strong>{" "}
        <StudyText>{bucket.description}</StudyText>
      </p>
    );
  return (
    <fieldset
      ref={group}
      className={`annotation keys-${keys}${missing ? " missing" : ""}`}
      data-testid={testId}
      data-answers="boxes"
      data-empty={empty}
      disabled={disabled}
      onKeyDown={(event) => {
        if (keys === "inside") pressBox(event.nativeEvent, event.currentTarget);
      }}
    >
      <legend>
        {about !== "" && <span className="sr-only">{`${about} `}</span>}
        <span>{config.question || texts.annotation.fallbackQuestion}</span>
      </legend>
      <div className={onePerLine ? "buckets lines" : "buckets"}>
        {config.buckets.map((bucket, index) => (
          <div className="bucket-row" key={bucket.value}>
            <div className="bucket">
              <label>
                <input
                  type="checkbox"
                  data-testid={`bucket-${bucket.value}`}
                  data-number={index + 1}
                  aria-keyshortcuts={index < HIGHEST_KEY ? String(index + 1) : undefined}
                  checked={ticked.includes(bucket.value)}
                  aria-describedby={bucket.description === "" ? undefined : `${id}-${index}`}
                  onChange={(event) => {
                    onTick(bucket.value, event.target.checked);
                  }}
                />
                <span className="bucket-name">
                  <StudyText>{bucket.name}</StudyText>
                </span>
                {index < HIGHEST_KEY && (
                  <kbd className="number-key" aria-hidden="true" translate="no">
                    {String(index + 1)}
                  </kbd>
                )}
              </label>
              {bucket.description !== "" && (
                <button
                  type="button"
                  className="bucket-info"
                  aria-label={texts.annotation.about(bucket.name)}
                  aria-expanded={open.includes(bucket.value)}
                  aria-controls={`${id}-${index}`}
                  onClick={() => {
                    toggle(bucket.value);
                  }}
                >
                  <Icon name="info" />
                </button>
              )}
            </div>
            {onePerLine && description(bucket, index)}
          </div>
        ))}
      </div>
      {!onePerLine && config.buckets.map(description)}
    </fieldset>
  );
}

/** Let number keys tick the boxes of a group, wherever the focus is, except where the worker writes. */
function useNumberKeys(group: RefObject<HTMLFieldSetElement>, on: boolean): void {
  useLayoutEffect(() => {
    if (!on) return;
    const press = (event: KeyboardEvent): void => {
      if (document.querySelector("dialog[open]") === null) pressBox(event, group.current);
    };
    document.addEventListener("keydown", press);
    return () => {
      document.removeEventListener("keydown", press);
    };
  }, [group, on]);
}

/** Press the box that a number key stands for. It gets the focus, so that it is seen, and told to screen readers. */
function pressBox(event: KeyboardEvent, group: HTMLElement | null): void {
  const number = numberOf(event);
  if (number === null || event.defaultPrevented || takesText(event.composedPath()[0])) return;
  const box = group?.querySelector<HTMLInputElement>(`input[data-number="${number}"]:not(:disabled)`);
  if (!box) return;
  event.preventDefault();
  box.focus();
  box.click();
}

/** A description that has just been opened may lie below what is in sight. */
function showNearest(element: HTMLElement | null): void {
  element?.scrollIntoView({ block: "nearest" });
}
