import type { ReactElement } from "react";
import { texts } from "../texts";
import { Dialog } from "./Dialog";

/** Says that a new conversation has begun in place of the earlier one. */
export function Renewed({ onAccept }: { onAccept: () => void }): ReactElement {
  const t = texts.screens.renewed;
  return (
    <Dialog title={t.title} onClose={onAccept}>
      <p data-testid="renewed">{t.text}</p>
      <button type="button" className="primary-button" data-testid="renewed-accept" onClick={onAccept}>
        {t.action}
      </button>
    </Dialog>
  );
}
