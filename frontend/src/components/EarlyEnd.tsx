import type { ReactElement } from "react";
import type { Session, Snapshot } from "../session";
import { texts } from "../texts";
import { HandIn } from "./HandIn";
import type { IconName } from "./Icon";
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
  if (session.parts.isPanel) return <StudyLost />;
  const { icon, title, reason, text } = contentOf(screen, snapshot);
  return (
    <Notice key={screen} icon={icon} title={title}>
      <p data-testid="reason">{reason}</p>
      <p>{text}</p>
      <HandIn snapshot={snapshot} session={session} />
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
