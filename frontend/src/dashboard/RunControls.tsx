import { useState, type ReactElement } from "react";
import { Alert } from "../components/Alert";
import { Dialog } from "../components/Dialog";
import { ApiError, type Api } from "./api";
import { many, money } from "./format";
import type { Overview, RunAct } from "./types";

const UNSURE =
  "The answer did not arrive, so it isn’t known whether this was done. Look at the overview before you repeat it.";

/** Stop taking new workers, take them again, ask for more conversations: each is asked about once more. */
export function RunControls({
  api,
  study,
  overview,
  onDone,
}: {
  api: Api;
  study: string;
  overview: Overview;
  onDone: () => void;
}): ReactElement {
  const [asked, setAsked] = useState<RunAct["act"] | null>(null);
  const [told, setTold] = useState("");
  return (
    <div className="controls">
      <p role="status" className="quiet">
        {told}
      </p>
      {overview.accepting ? (
        <button
          type="button"
          className="small-button"
          onClick={() => {
            setAsked("stop");
          }}
        >
          Take no new workers…
        </button>
      ) : (
        <button
          type="button"
          className="small-button"
          onClick={() => {
            setAsked("resume");
          }}
        >
          Take workers again…
        </button>
      )}
      <button
        type="button"
        className="small-button"
        onClick={() => {
          setAsked("extend");
        }}
      >
        More conversations…
      </button>
      {asked !== null && (
        <RunDialog
          api={api}
          study={study}
          overview={overview}
          act={asked}
          onClose={(done) => {
            setAsked(null);
            setTold(done ?? "");
            onDone();
          }}
        />
      )}
    </div>
  );
}

const MOST_MORE = 100_000;

function RunDialog({
  api,
  study,
  overview,
  act,
  onClose,
}: {
  api: Api;
  study: string;
  overview: Overview;
  act: RunAct["act"];
  onClose: (done?: string) => void;
}): ReactElement {
  const [typed, setTyped] = useState("10");
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const more = /^\d{1,6}$/.test(typed.trim()) ? Number(typed) : 0;
  const fine = more >= 1 && more <= MOST_MORE;
  const { chatting } = overview.workers;
  const { reward, currency } = overview.money;

  const texts = {
    stop: {
      title: "Take no new workers?",
      text: `Nobody new can begin. ${chatting === 0 ? "Nobody is chatting at present." : `${many(chatting, "worker who chats goes", "workers who chat go")} on to the end and will be paid.`} You can take workers again at any time.`,
      button: "Take no new workers",
      done: "No new workers are taken.",
    },
    resume: {
      title: "Take workers again?",
      text: "Workers can begin again, until the study has all the conversations that it wants.",
      button: "Take workers again",
      done: "Workers are taken again.",
    },
    extend: {
      title: "Ask for more conversations?",
      text: fine
        ? `The study then wants ${many(more, "more conversation", "more conversations")}${overview.target === null ? "" : ` (${many(overview.target + more, "conversation", "conversations")} in all)`}${reward == null ? "" : `; their pay is ${money(reward * more, currency)}, without fees`}.`
        : `Write a whole number from 1 to ${MOST_MORE.toLocaleString("en")}.`,
      button: fine ? `Ask for ${more.toLocaleString("en")} more` : "Ask for more",
      done: `${many(more, "more conversation is", "more conversations are")} wanted.`,
    },
  }[act];

  const doIt = async (): Promise<void> => {
    if (busy) return;
    if (act === "extend" && !fine) {
      setError(texts.text);
      return;
    }
    setBusy(true);
    setError(null);
    try {
      await api.run(study, act === "extend" ? { act, more } : { act });
      onClose(texts.done);
    } catch (problem) {
      setBusy(false);
      setError(problem instanceof ApiError && problem.status !== 0 ? problem.message : UNSURE);
    }
  };

  return (
    <Dialog
      title={texts.title}
      onClose={() => {
        onClose();
      }}
    >
      <form
        className="act-form"
        onSubmit={(event) => {
          event.preventDefault();
          void doIt();
        }}
      >
        {act === "extend" && (
          <label>
            <span>How many more</span>
            <input
              type="text"
              inputMode="numeric"
              value={typed}
              onChange={(event) => {
                setTyped(event.target.value);
              }}
            />
          </label>
        )}
        <p>{texts.text}</p>
        <Alert text={error} />
        <div className="act-buttons">
          <button
            type="button"
            className="quiet-button"
            onClick={() => {
              onClose();
            }}
          >
            Cancel
          </button>
          <button type="submit" className="primary-button" aria-disabled={busy || (act === "extend" && !fine)}>
            {busy ? "One moment…" : texts.button}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
