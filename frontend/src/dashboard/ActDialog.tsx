import { useEffect, useId, useRef, useState, type ReactElement } from "react";
import { Alert } from "../components/Alert";
import { Dialog } from "../components/Dialog";
import { amountOf, approvalPay, total, whom, type Target } from "./acting";
import { money, short, words } from "./format";
import { REJECT_CATEGORIES, type ActName, type ActRequest } from "./types";

type Asked = Pick<ActRequest, "act" | "reason" | "amount" | "category">;

const MOST_REASON = 2000;

/** Asks for what an act needs, and says what it will do to how many before it is done. */
export function ActDialog({
  act,
  targets,
  currency,
  onAct,
  onClose,
}: {
  act: ActName;
  targets: readonly Target[];
  currency: string;
  onAct: (asked: Asked) => Promise<void>;
  onClose: () => void;
}): ReactElement {
  const [reason, setReason] = useState("");
  const [typed, setTyped] = useState("");
  const [category, setCategory] = useState("");
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const hint = useId();
  const form = useRef<HTMLFormElement>(null);
  // What is to be written has the focus, or the button that does it; the dialog itself would give it to its first button.
  useEffect(() => {
    form.current?.querySelector<HTMLElement>("input, textarea, [type=submit]")?.focus();
  }, []);

  const amount = amountOf(typed);
  const needsReason = act !== "approve";
  const size = targets.length.toLocaleString("en");
  const pay = approvalPay(targets, currency);
  const all = whom(targets);
  const sum = amount === null ? "" : money(total(amount, targets), currency);
  const workers = new Set(targets.map((target) => target.worker)).size;
  const people = workers === 1 ? `Worker ${short(targets[0]?.worker ?? "", 60)}` : `${workers} workers`;

  const texts = {
    approve: {
      title: "Approve?",
      text: `Approves ${all}${pay === "" ? "; each worker is paid the reward." : `: ${pay} in all, without the platform’s fees.`} An approval can’t be taken back.`,
      button: pay === "" ? `Approve ${size}` : `Approve ${size} and pay ${pay}`,
      reason: "",
    },
    reject: {
      title: "Reject?",
      text: `Rejects ${all}. Their workers are not paid for them, and a rejection harms their standing.`,
      button: `Reject ${size}`,
      reason: "Reason, which the worker reads",
    },
    bonus: {
      title: "Pay a bonus?",
      text:
        amount === null
          ? `For each of ${all}.`
          : `Pays ${money(amount, currency)} for each of ${all}: ${sum} in all, without the platform’s fees. A bonus can’t be taken back.`,
      button: amount === null ? "Pay" : `Pay ${sum}`,
      reason: "Reason, which the worker may read",
    },
    block: {
      title: "Block?",
      text: `${people} will get no more conversations. Pay for earlier work stays as it is.`,
      button: workers === 1 ? "Block the worker" : `Block ${workers} workers`,
      reason: "Reason, for the audit log",
    },
    unblock: {
      title: "Unblock?",
      text: `${people} may take part again.`,
      button: workers === 1 ? "Unblock the worker" : `Unblock ${workers} workers`,
      reason: "Reason, for the audit log",
    },
  }[act];

  const doIt = async (): Promise<void> => {
    if (busy) return;
    if (act === "bonus" && amount === null) {
      setError("Write an amount above 0, with at most two decimals, such as 0.50.");
      return;
    }
    if (needsReason && reason.trim() === "") {
      setError("Write a reason.");
      return;
    }
    setBusy(true);
    setError(null);
    await onAct({
      act,
      ...(needsReason ? { reason: reason.trim() } : {}),
      ...(act === "bonus" && amount !== null ? { amount } : {}),
      ...(act === "reject" && category !== "" ? { category } : {}),
    });
  };

  return (
    <Dialog
      title={texts.title}
      className="act-dialog"
      onClose={() => {
        if (!busy) onClose();
      }}
    >
      <form
        ref={form}
        className="act-form"
        onSubmit={(event) => {
          event.preventDefault();
          void doIt();
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            void doIt();
          }
        }}
      >
        {act === "bonus" && (
          <label>
            <span>{`Amount for each, in ${currency}`}</span>
            <input
              type="text"
              inputMode="decimal"
              value={typed}
              onChange={(event) => {
                setTyped(event.target.value);
              }}
            />
          </label>
        )}
        {needsReason && (
          <label>
            <span>{texts.reason}</span>
            <textarea
              rows={4}
              maxLength={MOST_REASON}
              aria-describedby={act === "reject" ? hint : undefined}
              value={reason}
              onChange={(event) => {
                setReason(event.target.value);
              }}
            />
          </label>
        )}
        {act === "reject" && (
          <>
            <p id={hint} className="quiet">
              {`Prolific asks for at least 100 characters (now ${reason.trim().length}) and for a category.`}
            </p>
            <label>
              <span>Category (Prolific only)</span>
              <select
                value={category}
                onChange={(event) => {
                  setCategory(event.target.value);
                }}
              >
                <option value="">None</option>
                {REJECT_CATEGORIES.map((name) => (
                  <option key={name} value={name}>
                    {words(name.toLowerCase())}
                  </option>
                ))}
              </select>
            </label>
          </>
        )}
        <p className="breaks" data-testid="consequence">
          {texts.text}
        </p>
        <Alert text={error} />
        <div className="act-buttons">
          <button type="button" className="quiet-button" disabled={busy} onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="primary-button" aria-disabled={busy}>
            {busy ? "One moment…" : texts.button}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
