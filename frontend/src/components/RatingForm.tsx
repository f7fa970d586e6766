import { useId, type ReactElement } from "react";
import { HIGHEST_RATING, LOWEST_RATING } from "../protocol";
import { numberOf } from "../lib/keys";
import { texts } from "../texts";
import { StudyText } from "./StudyText";

const SCALE = Array.from({ length: HIGHEST_RATING - LOWEST_RATING + 1 }, (_, index) => LOWEST_RATING + index);

/** The questions at the end, each answered on a scale. */
export function RatingForm({
  questions,
  ratings,
  disabled,
  pointedOut = false,
  onRate,
}: {
  questions: readonly string[];
  ratings: readonly (number | null)[];
  disabled: boolean;
  /** What is not answered is drawn as what still has to be done. */
  pointedOut?: boolean;
  onRate: (question: number, rating: number) => void;
}): ReactElement {
  const id = useId();
  const { lowest, highest, option } = texts.rating;
  return (
    <>
      {questions.map((question, index) => (
        <fieldset
          key={index}
          className={pointedOut && (ratings[index] ?? null) === null ? "rating missing" : "rating"}
          data-testid={`rating-${index}`}
          data-answers="rating"
          data-empty={(ratings[index] ?? null) === null}
          disabled={disabled}
          onKeyDown={(event) => {
            const rating = numberOf(event.nativeEvent);
            const radio = event.currentTarget.querySelector<HTMLInputElement>(`input[value="${rating}"]`);
            if (radio === null) return;
            event.preventDefault(); // the number is no box's
            radio.focus();
            radio.click();
          }}
        >
          <legend>
            <StudyText>{question}</StudyText>
          </legend>
          <div className="scale">
            {SCALE.map((rating) => (
              <label key={rating} className="scale-option">
                <input
                  type="radio"
                  name={`${id}-${index}`}
                  value={rating}
                  data-testid={`rating-${index}-${rating}`}
                  checked={ratings[index] === rating}
                  aria-label={option(rating, lowest, highest)}
                  onChange={() => {
                    onRate(index, rating);
                  }}
                />
                <span aria-hidden="true" translate="no">
                  {texts.number(rating)}
                </span>
              </label>
            ))}
          </div>
          <div className="scale-ends" aria-hidden="true">
            <span>{lowest}</span>
            <span>{highest}</span>
          </div>
        </fieldset>
      ))}
    </>
  );
}
