import type { ReactElement } from "react";
import type { Session, Snapshot } from "../session";
import { texts } from "../texts";
import { Icon } from "./Icon";

/** The button by which a worker hands in, and what is said if that has failed. */
export function HandIn({
  snapshot,
  session,
  label = texts.screens.finished.submit,
}: {
  snapshot: Snapshot;
  session: Session;
  label?: string;
}): ReactElement {
  const { handIn } = snapshot;
  const t = texts.screens.finished;
  return (
    <>
      {handIn === "failed" && (
        <p className="alert" role="alert">
          <Icon name="warning" />
          <span>{t.failed}</span>
        </p>
      )}
      <button
        type="button"
        className="primary-button large"
        data-testid="submit"
        aria-disabled={handIn === "sending"}
        onClick={() => {
          void session.handIn();
        }}
      >
        {handIn === "sending" ? t.submitting : label}
      </button>
    </>
  );
}
