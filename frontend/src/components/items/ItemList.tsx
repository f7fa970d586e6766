import { useId, type ReactElement } from "react";
import { numberOf, takesText } from "../../lib/keys";
import type { Checked, Entries, Entry, Item, Problem } from "../../study/items";
import { texts } from "../../texts";
import { BestWorstField, ChoiceField, MatrixField, NumberField, ScaleField, SliderField, TextField } from "./fields";
import { HighlightField } from "./HighlightField";
import "./items.css";
import { RankingField } from "./RankingField";
import { StudyText } from "../StudyText";

/** The items of a form that are shown, each with its question and what is wrong with its answer. */
export function ItemList({
  checked,
  entries,
  reply,
  disabled,
  pointedOut,
  onEnter,
}: {
  checked: Checked;
  entries: Entries;
  reply: string | null;
  disabled: boolean;
  /** The worker has tried to go on: what is not answered is drawn as what still has to be done. */
  pointedOut: boolean;
  onEnter: (item: string, entry: Entry) => void;
}): ReactElement {
  return (
    <div className="items">
      {checked.shown.map((item) => (
        <ItemCard
          key={item.id}
          item={item}
          entry={entries[item.id]}
          problem={checked.problems[item.id] ?? null}
          reply={reply}
          disabled={disabled}
          pointedOut={pointedOut}
          onEnter={(entry) => {
            onEnter(item.id, entry);
          }}
        />
      ))}
    </div>
  );
}

/** Problems that are said while the worker still writes: they do not come from having answered nothing yet. */
const AT_ONCE: ReadonlySet<Problem> = new Set(["too_long", "out_of_range"]);

function ItemCard({
  item,
  entry,
  problem,
  reply,
  disabled,
  pointedOut,
  onEnter,
}: {
  item: Item;
  entry: Entry;
  problem: Problem | null;
  reply: string | null;
  disabled: boolean;
  pointedOut: boolean;
  onEnter: (entry: Entry) => void;
}): ReactElement {
  const id = useId();
  const invalid = problem !== null && (pointedOut || AT_ONCE.has(problem));
  const common = { entry, onEnter, invalid, describedBy: invalid ? `${id}-problem` : undefined };
  return (
    <fieldset
      className={invalid ? "item missing" : "item"}
      data-testid={`item-${item.id}`}
      data-kind={item.kind}
      data-answers="item"
      data-problem={problem !== null}
      disabled={disabled}
      aria-describedby={invalid ? `${id}-problem` : undefined}
      onKeyDown={(event) => {
        // Number keys tick the boxes of the reply, but not while the worker answers something else.
        if (numberOf(event.nativeEvent) !== null && !takesText(event.target)) event.preventDefault();
      }}
    >
      <legend>
        <StudyText>{item.question}</StudyText>
        {!item.required && <span className="optional">{` (${texts.study.optional})`}</span>}
      </legend>
      <Field item={item} reply={reply ?? ""} {...common} />
      {invalid && (
        <p id={`${id}-problem`} className="item-problem">
          {texts.study.problems[problem]}
        </p>
      )}
    </fieldset>
  );
}

function Field({
  item,
  reply,
  ...rest
}: {
  item: Item;
  reply: string;
  entry: Entry;
  onEnter: (entry: Entry) => void;
  invalid: boolean;
  describedBy: string | undefined;
}): ReactElement {
  switch (item.kind) {
    case "scale":
      return <ScaleField item={item} {...rest} />;
    case "choice":
      return <ChoiceField item={item} {...rest} />;
    case "text":
      return <TextField item={item} {...rest} />;
    case "number":
      return <NumberField item={item} {...rest} />;
    case "slider":
      return <SliderField item={item} {...rest} />;
    case "ranking":
      return <RankingField item={item} {...rest} />;
    case "best_worst":
      return <BestWorstField item={item} {...rest} />;
    case "matrix":
      return <MatrixField item={item} {...rest} />;
    case "highlight":
      return <HighlightField item={item} reply={reply} {...rest} />;
  }
}
