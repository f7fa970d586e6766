import type { ReactElement } from "react";
import type { Session, Snapshot } from "../session";
import { texts } from "../texts";
import { Icon, type IconName } from "./Icon";
import { Notice } from "./Notice";

export type EarlyEndScreen = "stopped" | "timeout" | "gone";

/** The ends before the end at which the worker can hand in: the study was stopped, is gone, or the time is up. */
export function EarlyEnd({
  screen,
  snapshot,
  session,
}: {
  screen: EarlyEndScreen;
  snapshot: Snapshot;
  session: Session;
}): ReactElement {
  const { handIn } = snapshot;
  const t = texts.screens.finished;
  if (session.parts.isPanel) return <StudyLost />;
  const { icon, title, reason, text } = contentOf(screen, snapshot);
  return (
    <Notice key={screen} icon={icon} title={title}>
      <p data-testid="reason">{reason}</p>
      <p>{text}</p>
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
        {handIn === "sending" ? t.submitting : t.submit}
      </button>
    </Notice>
  );
}

/** A panel's participant gets their code from the server, which is gone: there is nothing that this page could hand in. */
function StudyLost(): ReactElement {
  const t = texts.screens.panelUnreachable;
  return (
    <Notice key="panel-unreachable" icon="offline" title={t.title}>
      <p data-testid="reason">{t.reason}</p>
      <p>{t.text}</p>
    </Notice>
  );
}

function contentOf(
  screen: EarlyEndScreen,
  { gone, state }: Snapshot,
): { icon: IconName; title: string; reason: string; text: string } {
  const s = texts.screens;
  const said = state?.view.ended?.reason ?? "";
  switch (screen) {
    case "stopped":
      return { icon: "away", title: s.stopped.title, reason: said || s.stopped.fallback, text: s.finished.text };
    case "timeout":
      return { icon: "clock", title: s.timeUp.title, reason: said, text: s.finished.text };
    case "gone":
      return { icon: "offline", ...(gone === "unreachable" ? s.unreachableStudy : s.studyOver) };
  }
}
