import { useId, useState, type ReactElement } from "react";
import type { AnnotationConfig, Bucket } from "../protocol";
import { texts } from "../texts";
import { useMedia } from "./hooks";
import { Icon } from "./Icon";

/** The boxes for one reply, each with its description behind a button. */
export function AnnotationBoxes({
  config,
  ticked,
  onTick,
  disabled = false,
  missing = false,
  empty = false,
  testId = "annotation",
}: {
  config: AnnotationConfig;
  ticked: readonly string[];
  onTick: (value: string, on: boolean) => void;
  disabled?: boolean;
  /** Drawn as what still has to be done. */
  missing?: boolean;
  /** No box is ticked. */
  empty?: boolean;
  testId?: string;
}): ReactElement {
  const id = useId();
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
        <strong>{bucket.name}:</strong> {bucket.description}
      </p>
    );
  return (
    <fieldset
      className={missing ? "annotation missing" : "annotation"}
      data-testid={testId}
      data-empty={empty}
      disabled={disabled}
    >
      <legend>{config.question || texts.annotation.fallbackQuestion}</legend>
      <div className={onePerLine ? "buckets lines" : "buckets"}>
        {config.buckets.map((bucket, index) => (
          <div className="bucket-row" key={bucket.value}>
            <div className="bucket">
              <label>
                <input
                  type="checkbox"
                  data-testid={`bucket-${bucket.value}`}
                  checked={ticked.includes(bucket.value)}
                  aria-describedby={bucket.description === "" ? undefined : `${id}-${index}`}
                  onChange={(event) => {
                    onTick(bucket.value, event.target.checked);
                  }}
                />
                <span className="bucket-name">{bucket.name}</span>
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

/** A description that has just been opened may lie below what is in sight. */
function showNearest(element: HTMLElement | null): void {
  element?.scrollIntoView({ block: "nearest" });
}
