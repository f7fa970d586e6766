/** The dashboard as it is, against a server that speaks its interface, with the cookies and streams that jsdom lacks. */

import { render } from "@testing-library/react";
import { DashboardServer, type Study } from "../dev/dashboard-server.mjs";
import { Api, type OpenStream } from "../src/dashboard/api";
import { Dashboard } from "../src/dashboard/Dashboard";
import type { Overview, Role } from "../src/dashboard/types";

export interface Opened {
  server: DashboardServer;
  container: HTMLElement;
  /** Another browser's session ends as well. */
  endSessions: () => void;
  /** Keep requests whose address ends so from leaving, until the returned function is called. */
  hold: (end: string) => () => void;
  close: () => void;
}

/** Open the dashboard of some studies, logged in with a role (or not, with null), at an address's hash. */
export async function openDashboard(
  studies: Study[],
  role: Role | null,
  hash = "",
  unreachable = "none",
): Promise<Opened> {
  const server = new DashboardServer(studies);
  server.unreachable = unreachable;
  const base = await server.listen();
  let cookie = role === null ? "" : `session=${server.begin("Ana", role)}`;
  let held: { end: string; until: Promise<void> } | null = null;
  const withCookies: typeof fetch = async (input, init) => {
    if (held !== null && typeof input === "string" && input.endsWith(held.end)) await held.until;
    const headers = new Headers(init?.headers);
    headers.set("Cookie", cookie);
    const response = await fetch(input, { ...init, headers });
    cookie = response.headers.get("Set-Cookie")?.split(";")[0] ?? cookie;
    return response;
  };
  const openStream: OpenStream = (address, onOverview, onError) => {
    const controller = new AbortController();
    void read(address, cookie, controller.signal, onOverview).catch(() => {
      if (!controller.signal.aborted) onError();
    });
    return {
      close: () => {
        controller.abort();
      },
    };
  };
  location.hash = hash;
  const { container, unmount } = render(<Dashboard api={new Api(base, withCookies, openStream)} />);
  return {
    server,
    container,
    endSessions: () => {
      server.sessions.clear();
    },
    hold: (end) => {
      let release = (): void => undefined;
      held = { end, until: new Promise((resolve) => (release = resolve)) };
      return () => {
        held = null;
        release();
      };
    },
    close: () => {
      unmount();
      server.close();
    },
  };
}

async function read(
  address: string,
  cookie: string,
  signal: AbortSignal,
  onOverview: (overview: Overview) => void,
): Promise<void> {
  const response = await fetch(address, { signal, headers: { Cookie: cookie } });
  if (response.body === null) throw new Error("no stream");
  let text = "";
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    text += part;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const data = /^data: (.*)$/m.exec(text.slice(0, end))?.[1];
      if (data !== undefined) onOverview(JSON.parse(data) as Overview);
      text = text.slice(end + 2);
    }
  }
  throw new Error("the stream has ended");
}
