import type { ReactElement } from "react";
import { checkForm, formOf, type Event, type State } from "../../state/conversation";
import { texts } from "../../texts";
import { ItemList } from "./ItemList";

/** What is asked of the model's last reply, beside its boxes or in place of them. */
export default function ReplyItems({
  state,
  pointedOut,
  dispatch,
}: {
  state: State;
  pointedOut: boolean;
  dispatch: (event: Event) => void;
}): ReactElement | null {
  const form = formOf(state);
  if (form === null) return null;
  return (
    <section className="reply-items" aria-label={texts.study.replyTitle} data-testid="reply-items">
      <ItemList
        key={form.key}
        checked={checkForm(state, form)}
        entries={state.draft.forms[form.key] ?? {}}
        reply={form.reply}
        disabled={state.pending !== null}
        pointedOut={pointedOut}
        onEnter={(item, entry) => {
          dispatch({ type: "entered", form: form.key, item, entry });
        }}
      />
    </section>
  );
}
