import { useCallback, useEffect, useRef, useState, type ReactElement } from "react";
import { Dialog } from "../components/Dialog";
import { Icon } from "../components/Icon";
import { Notice } from "../components/Notice";
import { ApiError, type Api } from "./api";
import { AuditPage } from "./Audit";
import { Boundary } from "./Boundary";
import { short } from "./format";
import { useLive } from "./hooks";
import { LoginForm } from "./Login";
import { OverviewPage } from "./Overview";
import { Review } from "./Review";
import { hashOf, readRoute, WHOLE_LIST, type Route } from "./route";
import { RunControls } from "./RunControls";
import { StudiesPage } from "./Studies";
import { Name } from "./Text";
import { may, type Role, type Session } from "./types";

const TITLE = "model-chat dashboard";
const ROLES: Record<Role, string> = {
  read: "may read",
  review: "may review",
  pay: "may review and pay",
};

/** The whole page: log-in, where one is, and what is there. */
export function Dashboard({ api }: { api: Api }): ReactElement {
  const [session, setSession] = useState<Session | null>(null);
  const [state, setState] = useState<"asking" | "out" | "in" | "expired" | "unreached">("asking");
  const [problem, setProblem] = useState("");

  const enter = useCallback((now: Session) => {
    setSession(now);
    setState("in");
  }, []);
  const ask = useCallback(async () => {
    setState("asking");
    try {
      enter(await api.session());
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        setState("out");
        return;
      }
      setProblem(error instanceof ApiError ? error.message : "The page failed.");
      setState("unreached");
    }
  }, [api, enter]);

  useEffect(() => {
    api.whenSessionEnds(() => {
      setState((before) => (before === "in" ? "expired" : before));
    });
    // eslint-disable-next-line react-hooks/set-state-in-effect -- the answer of the server is what is waited for
    void ask();
  }, [api, ask]);

  if (state === "asking") return <Notice icon="clock" title="Loading…" busy />;
  if (state === "unreached") {
    return (
      <Notice icon="offline" title={problem}>
        <p>Is the run or scripts/dashboard.py still going on? Nothing is lost: the dashboard only reads the records.</p>
        <button type="button" className="primary-button" onClick={() => void ask()}>
          Try again
        </button>
      </Notice>
    );
  }
  if (state === "out" || session === null) {
    return (
      <Notice icon="screen" title={TITLE}>
        <LoginForm api={api} name="" onIn={enter} />
      </Notice>
    );
  }
  return (
    <>
      <Inside
        api={api}
        session={session}
        onLogOut={() => {
          const gone = (): void => {
            setSession(null);
            setState("out");
          };
          api.logout().then(gone, gone);
        }}
      />
      {state === "expired" && (
        <Dialog
          title="Your session has ended"
          className="login-dialog"
          onClose={() => {
            setState("out");
          }}
        >
          <p>Log in again to go on where you were.</p>
          <LoginForm api={api} name={session.name} onIn={enter} />
        </Dialog>
      )}
    </>
  );
}

function useRoute(session: Session): [Route, (to: Route) => void] {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const changed = (): void => {
      setHash(location.hash);
    };
    window.addEventListener("hashchange", changed);
    return () => {
      window.removeEventListener("hashchange", changed);
    };
  }, []);
  const go = useCallback((to: Route) => {
    const next = hashOf(to);
    if (next !== location.hash) location.hash = next;
    setHash(next);
  }, []);
  const only = session.studies.length === 1 ? session.studies[0] : undefined;
  const first: Route = only === undefined ? { view: "studies" } : { view: "overview", study: only.id };
  return [readRoute(hash) ?? first, go];
}

function Inside({ api, session, onLogOut }: { api: Api; session: Session; onLogOut: () => void }): ReactElement {
  const [route, go] = useRoute(session);
  const study = "study" in route ? session.studies.find((one) => one.id === route.study) : undefined;
  const unknown = "study" in route && study === undefined;
  const view = route.view;
  const main = useRef<HTMLElement>(null);
  const firstView = useRef(true);

  useEffect(() => {
    const names = { studies: "Studies", overview: "Overview", conversations: "Conversations", audit: "Audit log" };
    document.title = [names[view], study?.title, TITLE].filter((part) => part !== undefined).join(" · ");
    // A new view is read from its heading on; the first one from the page's beginning.
    if (!firstView.current) main.current?.querySelector("h1")?.focus();
    firstView.current = false;
  }, [view, study?.title]);

  return (
    <div className="dash">
      <a
        className="skip"
        href="#content"
        onClick={(event) => {
          event.preventDefault(); // the hash says where one is
          main.current?.focus();
        }}
      >
        Go to the content
      </a>
      <header className="dash-bar">
        <p className="dash-title">
          <Icon name="chat" />
          <span>Dashboard</span>
        </p>
        {session.studies.length > 1 && (
          <label className="study-choice">
            <span className="sr-only">Study</span>
            <select
              value={study?.id ?? ""}
              onChange={(event) => {
                const id = event.target.value;
                if (id === "") go({ view: "studies" });
                else if (view === "conversations") go({ view, study: id, list: WHOLE_LIST, open: null });
                else go({ view: view === "audit" ? "audit" : "overview", study: id });
              }}
            >
              <option value="">All studies</option>
              {session.studies.map((one) => (
                <option key={one.id} value={one.id}>
                  {one.live ? `${short(one.title, 60)} (running)` : short(one.title, 60)}
                </option>
              ))}
            </select>
          </label>
        )}
        <nav aria-label="Study">
          {study !== undefined && (
            <ul>
              <Tab to={{ view: "overview", study: study.id }} now={view} name="Overview" />
              <Tab
                to={{ view: "conversations", study: study.id, list: WHOLE_LIST, open: null }}
                now={view}
                name="Conversations"
              />
              <Tab to={{ view: "audit", study: study.id }} now={view} name="Audit log" />
            </ul>
          )}
        </nav>
        <div className="who">
          <p>
            <Name text={session.name} />
            <span className="role">{ROLES[session.role]}</span>
          </p>
          <button type="button" className="small-button" onClick={onLogOut}>
            Log out
          </button>
        </div>
      </header>
      <main ref={main} id="content" tabIndex={-1} className={view === "conversations" ? "wide" : ""}>
        <Boundary key={hashOf(route)}>
          {unknown && (
            <div className="empty">
              <h1 tabIndex={-1}>There is no such study</h1>
              <p>This dashboard doesn’t show the study of this address.</p>
              <a href={hashOf({ view: "studies" })}>Show all studies</a>
            </div>
          )}
          {view === "studies" && <StudiesPage api={api} studies={session.studies} />}
        </Boundary>
        {study !== undefined && "study" in route && (
          <Boundary key={study.id}>
            <StudyView api={api} session={session} study={study.id} route={route} go={go} />
          </Boundary>
        )}
      </main>
    </div>
  );
}

function Tab({ to, now, name }: { to: Route; now: Route["view"]; name: string }): ReactElement {
  return (
    <li>
      <a href={hashOf(to)} {...(to.view === now ? { "aria-current": "page" as const } : {})}>
        {name}
      </a>
    </li>
  );
}

/** One study; it stays in touch with the server while one goes from view to view. */
function StudyView({
  api,
  session,
  study,
  route,
  go,
}: {
  api: Api;
  session: Session;
  study: string;
  route: Exclude<Route, { view: "studies" }>;
  go: (to: Route) => void;
}): ReactElement {
  const { overview, lost, error, refresh } = useLive(api, study);
  return (
    <>
      <div role="status">
        {lost && (
          <p className="banner lost">
            <Icon name="offline" />
            <span>
              {overview === null
                ? "The dashboard’s server can’t be reached; the page keeps trying."
                : "The connection is lost; what you see may be old. The page keeps trying."}
            </span>
          </p>
        )}
      </div>
      {route.view === "overview" &&
        (overview !== null ? (
          <OverviewPage
            overview={overview}
            controls={
              may(session.role, "run") && overview.live ? (
                <RunControls api={api} study={study} overview={overview} onDone={refresh} />
              ) : null
            }
          />
        ) : (
          <div className="empty">
            <h1 tabIndex={-1}>Overview</h1>
            <p role={error === null ? "status" : "alert"}>{error ?? "Loading…"}</p>
          </div>
        ))}
      {route.view === "conversations" && (
        <Review
          api={api}
          study={study}
          role={session.role}
          overview={overview}
          route={route}
          go={go}
          onPaid={refresh}
        />
      )}
      {route.view === "audit" && <AuditPage api={api} study={study} />}
    </>
  );
}
