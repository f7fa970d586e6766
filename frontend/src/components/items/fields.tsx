/** Fields for items that are answered by choosing or writing: scale, choice, text, number, slider, best and worst, matrix. */

import { useId, useLayoutEffect, useRef, type CSSProperties, type ReactElement } from "react";
import { numberOf } from "../../lib/keys";
import { isRecord, list, text as asText } from "../../protocol";
import { NOT_APPLICABLE, SLIDER_MAX, type Entry, type Item, type ItemOf, type Scale } from "../../study/items";
import { texts } from "../../texts";
import { StudyText } from "../StudyText";

export interface FieldProps<K extends Item["kind"]> {
  item: ItemOf<K>;
  entry: Entry;
  onEnter: (entry: Entry) => void;
  /** Ids of what describes the field: its hint and what is wrong with it. */
  describedBy: string | undefined;
  invalid: boolean;
}

/** Radio buttons for points from 1 on. */
export function Points({
  scale,
  value,
  name,
  onChoose,
}: {
  scale: Scale;
  value: unknown;
  name: string;
  onChoose: (value: number | string) => void;
}): ReactElement {
  const { points, low, high } = scale;
  return (
    <div className="points">
      <div
        className="points-row"
        onKeyDown={(event) => {
          const point = numberOf(event.nativeEvent);
          if (point === null || point > points) return;
          event.preventDefault(); // the number is no box's
          event.currentTarget.querySelector<HTMLInputElement>(`input[value="${point}"]`)?.focus();
          onChoose(point);
        }}
        style={{ "--points": points } as CSSProperties}
      >
        {Array.from({ length: points }, (_, index) => index + 1).map((point) => (
          <label key={point} className="scale-option">
            <input
              type="radio"
              name={name}
              value={point}
              checked={value === point}
              aria-label={texts.study.point(point, low, high, points)}
              onChange={() => {
                onChoose(point);
              }}
            />
            <span aria-hidden="true" translate="no">
              {texts.number(point)}
            </span>
          </label>
        ))}
      </div>
      {(low !== "" || high !== "") && (
        <div className="scale-ends" aria-hidden="true">
          <span>
            <StudyText>{low}</StudyText>
          </span>
          <span>
            <StudyText>{high}</StudyText>
          </span>
        </div>
      )}
      {scale.not_applicable && (
        <label className="option small">
          <input
            type="radio"
            name={name}
            checked={value === NOT_APPLICABLE}
            onChange={() => {
              onChoose(NOT_APPLICABLE);
            }}
          />
          <span>{texts.study.notApplicable}</span>
        </label>
      )}
    </div>
  );
}

export function ScaleField({ item, entry, onEnter }: FieldProps<"scale">): ReactElement {
  return <Points scale={item} value={entry} name={useId()} onChoose={onEnter} />;
}

export function MatrixField({ item, entry, onEnter, invalid }: FieldProps<"matrix">): ReactElement {
  const id = useId();
  const entries = isRecord(entry) ? entry : {};
  return (
    <div className="matrix">
      {item.rows.map((row, index) => (
        <fieldset key={row} className={invalid && entries[row] === undefined ? "matrix-row missing" : "matrix-row"}>
          <legend>
            <StudyText>{row}</StudyText>
          </legend>
          <Points
            scale={item}
            value={entries[row]}
            name={`${id}-${index}`}
            onChoose={(value) => {
              onEnter({ ...entries, [row]: value });
            }}
          />
        </fieldset>
      ))}
    </div>
  );
}

export function ChoiceField({ item, entry, onEnter, invalid, describedBy }: FieldProps<"choice">): ReactElement {
  const name = useId();
  const field = useRef<HTMLInputElement>(null);
  const chosen = item.many ? list(entry) : entry === undefined || entry === null ? [] : [entry];
  const own = chosen.find(isRecord);
  const choose = (value: unknown, on: boolean): void => {
    if (!item.many) {
      onEnter(value);
    } else {
      const rest = chosen.filter((other) => (isRecord(value) ? !isRecord(other) : other !== value));
      onEnter(on ? [...rest, value] : rest);
    }
  };
  const kind = item.many ? "checkbox" : "radio";
  return (
    <div className="options">
      {item.options.map((option) => (
        <label key={option} className="option">
          <input
            type={kind}
            name={name}
            checked={chosen.includes(option)}
            onChange={(event) => {
              choose(option, event.target.checked);
            }}
          />
          <span>
            <StudyText>{option}</StudyText>
          </span>
        </label>
      ))}
      {item.other && (
        <div className="option-other">
          <label className="option">
            <input
              type={kind}
              name={name}
              checked={own !== undefined}
              onChange={(event) => {
                choose({ other: "" }, event.target.checked);
                // The field is there with the next picture that the page draws.
                if (event.target.checked) setTimeout(() => field.current?.focus());
              }}
            />
            <span>{texts.study.other}</span>
          </label>
          {own !== undefined && (
            <input
              ref={field}
              type="text"
              className="text-field"
              dir="auto"
              maxLength={500}
              aria-label={texts.study.otherLabel}
              aria-describedby={describedBy}
              aria-invalid={invalid}
              value={asText(own.other)}
              onChange={(event) => {
                choose({ other: event.target.value }, true);
              }}
            />
          )}
        </div>
      )}
    </div>
  );
}

export function TextField({ item, entry, onEnter, describedBy, invalid }: FieldProps<"text">): ReactElement {
  const area = useRef<HTMLTextAreaElement>(null);
  const id = useId();
  const written = asText(entry);
  const length = Array.from(written.trim()).length;
  useLayoutEffect(() => {
    if (area.current === null) return;
    area.current.style.height = "auto";
    area.current.style.height = `${area.current.scrollHeight + 2}px`;
  }, [written]);
  const hints = [
    ...(item.min_chars > 0 && length < item.min_chars ? [texts.study.atLeast(item.min_chars)] : []),
    ...(length > item.max_chars * 0.8 ? [texts.study.characters(length, item.max_chars)] : []),
  ];
  return (
    <>
      <textarea
        ref={area}
        className="text-field"
        rows={item.max_chars <= 100 ? 1 : 3}
        dir="auto"
        aria-describedby={[describedBy, `${id}-length`].filter(Boolean).join(" ")}
        aria-invalid={invalid}
        aria-label={item.question}
        value={written}
        onChange={(event) => {
          onEnter(event.target.value);
        }}
      />
      <p id={`${id}-length`} className={length > item.max_chars ? "item-hint strong" : "item-hint"}>
        {hints.join(" · ")}
      </p>
    </>
  );
}

export function NumberField({ item, entry, onEnter, describedBy, invalid }: FieldProps<"number">): ReactElement {
  const id = useId();
  return (
    <>
      <input
        type="text"
        inputMode="decimal"
        autoComplete="off"
        className="text-field number-field"
        aria-describedby={[describedBy, id].filter(Boolean).join(" ")}
        aria-invalid={invalid}
        aria-label={item.question}
        value={asText(entry)}
        onChange={(event) => {
          onEnter(event.target.value);
        }}
      />
      <p id={id} className="item-hint">
        {texts.study.range(item.min, item.max)}
      </p>
    </>
  );
}

/** A range that has no position until the worker gives it one. */
export function SliderField({ item, entry, onEnter, describedBy, invalid }: FieldProps<"slider">): ReactElement {
  const id = useId();
  const set = typeof entry === "number";
  const value = set ? entry : SLIDER_MAX / 2;
  const take = (field: HTMLInputElement): void => {
    onEnter(field.valueAsNumber);
  };
  return (
    <div className={set ? "slider" : "slider unset"}>
      <input
        type="range"
        min={0}
        max={SLIDER_MAX}
        step={1}
        value={value}
        aria-label={item.question}
        aria-valuetext={set ? texts.number(value) : texts.study.sliderUnsetSpoken}
        aria-describedby={[describedBy, id].filter(Boolean).join(" ")}
        aria-invalid={invalid}
        onChange={(event) => {
          take(event.target);
        }}
        // A press on the very middle changes nothing, and is an answer all the same.
        onPointerUp={(event) => {
          take(event.currentTarget);
        }}
        onKeyUp={(event) => {
          if (event.key === " " || event.key === "Enter") take(event.currentTarget);
        }}
      />
      <div className="scale-ends" aria-hidden="true">
        <span>{item.low || texts.number(0)}</span>
        <output translate="no">{set ? texts.number(value) : ""}</output>
        <span>{item.high || texts.number(SLIDER_MAX)}</span>
      </div>
      <p id={id} className="item-hint">
        {set ? "" : texts.study.sliderUnset}
        <span className="sr-only">{[item.low, item.high].filter(Boolean).join(" – ")}</span>
      </p>
    </div>
  );
}

export function BestWorstField({ item, entry, onEnter }: FieldProps<"best_worst">): ReactElement {
  const name = useId();
  const { best, worst } = isRecord(entry) ? entry : {};
  const t = texts.study.bestWorst;
  const choose = (which: "best" | "worst", option: string): void => {
    const other = which === "best" ? "worst" : "best";
    const kept = which === "best" ? worst : best;
    // An option can't be both: the choice made last counts.
    onEnter({ [which]: option, ...(kept === option || kept === undefined ? {} : { [other]: kept }) });
  };
  return (
    <div className="best-worst">
      <div className="best-worst-row head" aria-hidden="true">
        <span>{t.best}</span>
        <span />
        <span>{t.worst}</span>
      </div>
      {item.options.map((option) => (
        <div className="best-worst-row" key={option}>
          <label className="scale-option">
            <input
              type="radio"
              name={`${name}-best`}
              checked={best === option}
              aria-label={t.isBest(option)}
              onChange={() => {
                choose("best", option);
              }}
            />
            <span aria-hidden="true">+</span>
          </label>
          <span className="best-worst-option">
            <StudyText>{option}</StudyText>
          </span>
          <label className="scale-option">
            <input
              type="radio"
              name={`${name}-worst`}
              checked={worst === option}
              aria-label={t.isWorst(option)}
              onChange={() => {
                choose("worst", option);
              }}
            />
            <span aria-hidden="true">−</span>
          </label>
        </div>
      ))}
    </div>
  );
}
