/** The dashboard's server: requests, and the study as it happens. */

import type { ActRequest, ActResult, Audit, Overview, Page, RunAct, Session, Transcript } from "./types";

/** An answer that is none: `status` 0 means that the server was not reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export const NOT_REACHED = "The dashboard's server can't be reached.";

export interface EventStream {
  close: () => void;
}

/** Opens a stream of overviews; `onError` is called once when it breaks, and the stream is closed then. */
export type OpenStream = (
  address: string,
  onOverview: (overview: Overview) => void,
  onError: () => void,
) => EventStream;

export const openEventSource: OpenStream = (address, onOverview, onError) => {
  const source = new EventSource(address);
  source.addEventListener("overview", (event: MessageEvent<string>) => {
    onOverview(JSON.parse(event.data) as Overview);
  });
  source.onerror = () => {
    source.close(); // the page tries again by itself, and finds out why
    onError();
  };
  return source;
};

type Query = Record<string, string | number>;

export class Api {
  private csrf = "";
  private onSessionEnd: () => void = () => undefined;

  /**
   * @param base the page's own folder, with a slash at its end.
   */
  constructor(
    private readonly base: string,
    private readonly fetchFrom: typeof fetch = (...args) => fetch(...args),
    private readonly openStream: OpenStream = openEventSource,
  ) {}

  /** Have `ended` called when the server no longer knows who is asking. */
  whenSessionEnds(ended: () => void): void {
    this.onSessionEnd = ended;
  }

  async session(): Promise<Session> {
    return this.admit(await this.request<Session>("api/session"));
  }

  async login(name: string, password: string): Promise<Session> {
    await this.request("api/login", { name, password });
    return this.session();
  }

  async logout(): Promise<void> {
    await this.request("api/logout", {});
  }

  overview(study: string): Promise<Overview> {
    return this.request(`${this.study(study)}/overview`);
  }

  events(study: string, onOverview: (overview: Overview) => void, onError: () => void): EventStream {
    return this.openStream(this.base + this.study(study) + "/events", onOverview, onError);
  }

  conversations(study: string, query: Query, signal?: AbortSignal): Promise<Page> {
    return this.request(`${this.study(study)}/conversations${search(query)}`, undefined, signal);
  }

  conversation(study: string, id: string, signal?: AbortSignal): Promise<Transcript> {
    return this.request(`${this.study(study)}/conversations/${encodeURIComponent(id)}`, undefined, signal);
  }

  async act(study: string, act: ActRequest): Promise<ActResult[]> {
    return (await this.request<{ results: ActResult[] }>(`${this.study(study)}/acts`, act)).results;
  }

  async run(study: string, act: RunAct): Promise<void> {
    await this.request(`${this.study(study)}/run`, act);
  }

  audit(study: string, offset: number, signal?: AbortSignal): Promise<Audit> {
    return this.request(`${this.study(study)}/audit${search({ offset })}`, undefined, signal);
  }

  private study(id: string): string {
    return `api/studies/${encodeURIComponent(id)}`;
  }

  private admit(session: Session): Session {
    this.csrf = session.csrf;
    return session;
  }

  /** GET, or POST where there is a body. */
  private async request<T>(path: string, body?: object, signal?: AbortSignal): Promise<T> {
    let response: Response;
    try {
      response = await this.fetchFrom(this.base + path, {
        method: body === undefined ? "GET" : "POST",
        credentials: "same-origin",
        cache: "no-store",
        redirect: "error",
        ...(signal === undefined ? {} : { signal }),
        ...(body === undefined
          ? {}
          : { body: JSON.stringify(body), headers: { "Content-Type": "application/json", "X-CSRF-Token": this.csrf } }),
      });
    } catch (error) {
      if (signal?.aborted === true) throw error;
      throw new ApiError(0, NOT_REACHED);
    }
    const said = (await response.json().catch(() => null)) as unknown;
    if (response.ok && said !== null) return said as T;
    const { error, retry_after } = (said ?? {}) as { error?: unknown; retry_after?: unknown };
    if (response.status === 401 && path !== "api/login" && path !== "api/session") this.onSessionEnd();
    throw new ApiError(
      response.status,
      typeof error === "string" && error !== "" ? error : `The server answered with an error (${response.status}).`,
      typeof retry_after === "number" ? retry_after : null,
    );
  }
}

function search(query: Query): string {
  const filled = Object.entries(query).filter(([, value]) => value !== "");
  const text = new URLSearchParams(filled.map(([name, value]) => [name, String(value)])).toString();
  return text === "" ? "" : `?${text}`;
}
