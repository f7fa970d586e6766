import {
  Component,
  Suspense,
  useEffect,
  useMemo,
  useSyncExternalStore,
  type ContextType,
  type ReactElement,
  type ReactNode,
} from "react";
import { ChatScreen } from "./components/ChatScreen";
import { EndingScreen } from "./components/EndingScreen";
import { EarlyEnd } from "./components/EarlyEnd";
import { HandIn } from "./components/HandIn";
import { Icon } from "./components/Icon";
import { PageScreen, preload } from "./components/items/lazily";
import { Notice } from "./components/Notice";
import { OnboardingScreen } from "./components/OnboardingScreen";
import { Renewed } from "./components/Renewed";
import { ReplyFormat } from "./components/Reply";
import { RichHtml } from "./components/RichHtml";
import { replyRenderer } from "./lib/replyRenderer";
import type { TaskConfig } from "./protocol";
import type { Session, Snapshot } from "./session";
import { endingOf, reasonOf, screenOf, type Screen } from "./state/screen";
import { texts } from "./texts";

export function App({ session }: { session: Session }): ReactElement {
  const snapshot = useSyncExternalStore(session.subscribe, session.getSnapshot);
  const screen = screenOf(snapshot);
  const title = snapshot.config?.chat_title || texts.defaultTitle;
  useEffect(() => {
    document.title = title;
  }, [title]);
  const format = useReplyFormat(snapshot.config);
  const hasFlow = snapshot.config?.study_flow === true;
  useEffect(() => {
    if (hasFlow) preload();
  }, [hasFlow]);
  return (
    <div
      className="app"
      data-screen={screen}
      data-connection={snapshot.connection}
      lang={texts.language}
      dir={texts.direction}
    >
      <ErrorBoundary session={session}>
        {format === "loading" && SHOWS_REPLIES.has(screen) ? (
          <Loading snapshot={snapshot} />
        ) : (
          <ReplyFormat.Provider value={format === "loading" ? null : format}>
            <CurrentScreen screen={screen} snapshot={snapshot} session={session} />
          </ReplyFormat.Provider>
        )}
        {snapshot.renewed && <Renewed onAccept={session.acceptRenewal} />}
      </ErrorBoundary>
    </div>
  );
}

const SHOWS_REPLIES: ReadonlySet<Screen> = new Set(["chat", "rating", "onboarding"]);

/** How replies are shown; "loading" until the page knows how to, for what has been read must not change its looks. */
function useReplyFormat(config: TaskConfig | null): ContextType<typeof ReplyFormat> | "loading" {
  const render = useSyncExternalStore(replyRenderer.subscribe, replyRenderer.getSnapshot);
  const markdown = config?.reply_format === "markdown";
  const links = config?.reply_links === true;
  useEffect(() => {
    if (markdown) replyRenderer.start();
  }, [markdown]);
  return useMemo(() => {
    if (!markdown || render === "failed") return null;
    return render === "loading" ? "loading" : { render, links };
  }, [markdown, render, links]);
}

function CurrentScreen({
  screen,
  snapshot,
  session,
}: {
  screen: Screen;
  snapshot: Snapshot;
  session: Session;
}): ReactElement {
  const { config, phase, state } = snapshot;
  const connected = snapshot.connection !== "lost";
  switch (screen) {
    case "page":
      if (config !== null && state !== null && state.view.page !== null) {
        return (
          <Suspense fallback={<Loading snapshot={snapshot} />}>
            <PageScreen
              config={config}
              state={state}
              page={state.view.page}
              connected={connected}
              justBack={snapshot.justBack}
              dispatch={session.dispatch}
              onSend={session.send}
              onMoreTime={session.askMoreTime}
            />
          </Suspense>
        );
      }
      break;
    case "chat":
    case "rating":
      if (config !== null && state !== null) {
        return (
          <ChatScreen
            config={config}
            state={state}
            connected={connected}
            justBack={snapshot.justBack}
            dispatch={session.dispatch}
            onSend={session.send}
            onMoreTime={session.askMoreTime}
          />
        );
      }
      break;
    case "onboarding":
      if (config !== null && state !== null && phase.kind === "live" && phase.onboarding !== null) {
        return (
          <OnboardingScreen
            config={config}
            data={phase.onboarding}
            state={state}
            connected={connected}
            justBack={snapshot.justBack}
            dispatch={session.dispatch}
            onSend={session.send}
          />
        );
      }
      break;
    case "preview":
      return <Preview html={config?.task_description ?? ""} title={config?.chat_title ?? ""} />;
    case "ending": {
      const ending = endingOf(snapshot);
      if (ending !== null) return <EndingScreen ending={ending} />;
      break;
    }
    case "finished":
    case "model-failed":
      return <Finish screen={screen} snapshot={snapshot} session={session} />;
    case "stopped":
    case "gone":
      return <EarlyEnd screen={screen} snapshot={snapshot} session={session} />;
    case "timeout":
      if (state !== null && state.view.ended !== null)
        return <EarlyEnd screen={screen} snapshot={snapshot} session={session} />;
      return <Ending screen={screen} snapshot={snapshot} />;
    case "loading":
      break;
    default:
      return <Ending screen={screen} snapshot={snapshot} />;
  }
  return <Loading snapshot={snapshot} />;
}

function Loading({ snapshot }: { snapshot: Snapshot }): ReactElement {
  const { state, phase } = snapshot;
  const passed = state?.view.onboarding.outcome === "passed";
  const waiting = phase.kind === "live" ? texts.screens.waiting : texts.screens.loading;
  return (
    <Notice
      key={passed ? "passed" : phase.kind}
      icon={passed ? "done" : "chat"}
      busy={!passed}
      title={passed ? texts.onboarding.passedTitle : waiting.title}
    >
      <p>{passed ? texts.onboarding.passed : waiting.text}</p>
      {snapshot.connection === "lost" && <p role="status">{texts.connection.lost}</p>}
    </Notice>
  );
}

function Preview({ html, title }: { html: string; title: string }): ReactElement {
  return (
    <div className="page-layout">
      <header className="preview-banner">
        <Icon name="info" />
        <span>{texts.screens.preview.banner}</span>
      </header>
      {/* Focusable, so that the keyboard can scroll it. */}
      <main className="page" tabIndex={0}>
        <div className="column">
          {/* A description that opens with a heading needs no second title to the eye. */}
          <h1 className={opensWithHeading(html) ? "sr-only" : "page-title"}>{title || texts.defaultTitle}</h1>
          <section className="card">
            <RichHtml html={html} />
          </section>
          <p className="lead">{texts.screens.preview.end}</p>
        </div>
      </main>
    </div>
  );
}

function opensWithHeading(html: string): boolean {
  return /^\s*<h[12]\b/i.test(html);
}

/** The end at which the worker hands in: after the chat, and after a breakdown of the model. */
function Finish({
  screen,
  snapshot,
  session,
}: {
  screen: "finished" | "model-failed";
  snapshot: Snapshot;
  session: Session;
}): ReactElement {
  const { handIn, state } = snapshot;
  const t = texts.screens.finished;
  if (handIn === "done") {
    return (
      <Notice key="done" icon="done" title={t.doneTitle}>
        <p data-testid="submitted">{t.done}</p>
        {session.parts.hasPlatform && (
          <button type="button" className="quiet-button" onClick={session.handInAgain}>
            {t.again}
          </button>
        )}
      </Notice>
    );
  }
  const ended = state?.view.ended ?? null;
  const failed = screen === "model-failed";
  const incomplete = ended !== null && !ended.complete;
  const nothing = incomplete && state?.view.messages.length === 0;
  const declined = ended?.cause === "declined";
  const title = failed
    ? texts.screens.modelFailed.title
    : declined
      ? t.declinedTitle
      : nothing
        ? t.nothingTitle
        : incomplete
          ? t.incompleteTitle
          : t.title;
  const reason = failed ? state?.view.modelFailed || texts.screens.modelFailed.fallback : (ended?.reason ?? "");
  return (
    <Notice key={screen} icon={failed || incomplete ? "away" : "done"} title={title}>
      {reason !== "" && <p data-testid="reason">{reason}</p>}
      {!session.parts.isPanel && (
        <>
          <p>{declined ? t.declinedText : t.text}</p>
          <HandIn snapshot={snapshot} session={session} label={declined ? t.declinedSubmit : t.submit} />
        </>
      )}
    </Notice>
  );
}

/** The ends at which there is nothing to do, and the screens before a beginning that can't be. */
function Ending({ screen, snapshot }: { screen: Screen; snapshot: Snapshot }): ReactElement {
  const { phase, state } = snapshot;
  const s = texts.screens;
  const reason = reasonOf(phase);
  switch (screen) {
    case "mobile-blocked":
      return (
        <Notice icon="screen" title={s.mobileBlocked.title}>
          <p>{s.mobileBlocked.text}</p>
        </Notice>
      );
    case "lost":
      return (
        <Notice icon="offline" title={s.unreachable.title}>
          <p>{s.unreachable.text}</p>
          <ReloadButton label={s.unreachable.action} />
        </Notice>
      );
    case "blocked":
      return (
        <Notice icon="away" title={s.blocked.title}>
          {reason !== "" && <p data-testid="reason">{reason}</p>}
          <p>{s.blocked.text}</p>
        </Notice>
      );
    case "failed":
      return (
        <Notice icon="away" title={s.onboardingFailed.title}>
          <p data-testid="reason">{state?.view.onboarding.failureReason || s.onboardingFailed.fallback}</p>
          <p>{s.onboardingFailed.text}</p>
        </Notice>
      );
    case "timeout":
      return (
        <Notice icon="clock" title={s.timeout.title}>
          <p>{s.timeout.text}</p>
        </Notice>
      );
    case "disconnected": {
      const status = state?.agentStatus;
      const t =
        phase.kind === "turned-away"
          ? s.gone
          : status === "returned"
            ? s.returned
            : status === "expired"
              ? s.expired
              : s.disconnected;
      return (
        <Notice icon="away" title={t.title}>
          <p>{t.text}</p>
        </Notice>
      );
    }
    default:
      return (
        <Notice icon="away" title={noWorkTitle(phase)}>
          {reason !== "" && <p data-testid="reason">{reason}</p>}
          <p>{s.noWork.text}</p>
        </Notice>
      );
  }
}

function noWorkTitle(phase: Snapshot["phase"]): string {
  const { title, titles } = texts.screens.noWork;
  const refusal = phase.kind === "turned-away" ? phase.refusal : null;
  return (refusal !== null && (titles as Record<string, string>)[refusal]) || title;
}

function ReloadButton({ label }: { label: string }): ReactElement {
  return (
    <button
      type="button"
      className="primary-button"
      onClick={() => {
        location.reload();
      }}
    >
      {label}
    </button>
  );
}

/** An error of the page itself must not leave the worker before an empty screen. */
class ErrorBoundary extends Component<{ session: Session; children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override componentDidCatch(error: Error): void {
    this.props.session.reportError(`${error.message}\n${error.stack ?? ""}`);
  }

  override render(): ReactNode {
    if (!this.state.failed) return this.props.children;
    return (
      <Notice icon="warning" title={texts.screens.error.title}>
        <p>{texts.screens.error.text}</p>
        <ReloadButton label={texts.screens.error.action} />
      </Notice>
    );
  }
}
