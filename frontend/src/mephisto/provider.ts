/**
 * Who the worker is and how work is handed in: the functions that the crowd platform's `wrap_crowd_source.js` defines on
 * the page. Mephisto puts the file that fits the platform beside the page.
 *
 * A panel's participant is named by the page's address, and a visitor of a link by what the server has given this browser.
 * Both go to the server as they are: it finds out who has come (docs/protocol.md, section 5).
 */

import { isRecord, type Json } from "../protocol";

export interface Provider {
  /** Null while the worker only previews the task. */
  workerName: string | null;
  assignmentId: string | null;
  /** Read again for each request: what the server gives this browser becomes part of it. */
  readonly registration: Json;
  /** Further parameters that the platform wants on every request. */
  urlParams: Record<string, string>;
  /** Whether there is a crowd platform that waits for the work; the mock provider has none. */
  hasPlatform: boolean;
  /** Whether participants come from a panel, or by a link, and are told an ending. */
  isPanel: boolean;
  /** Tell the platform that the work is done; on MTurk this leaves the page. */
  handIn: (data: Json) => void;
  /** Keep what the server has given this browser. */
  keepVisitor: (visitor: string) => void;
}

interface ProviderGlobals {
  getWorkerName?: () => string | null;
  getAssignmentId?: () => string | null;
  getAgentRegistration?: () => Json;
  handleSubmitToProvider?: (data: Json) => unknown;
  getProviderURLParams?: Json | (() => Json);
}

/** Where the page is, and what the browser keeps for it over reloads and tabs. */
export interface Place {
  /** The address from `?` on. */
  search: string;
  /** Studies under one host name keep apart what they give a browser. */
  path: string;
  storage: Storage | null;
}

/** What MTurk gives instead of an assignment while a worker looks at a task without accepting it. */
const NO_ASSIGNMENT = "ASSIGNMENT_ID_NOT_AVAILABLE";
const PANEL = "panel";
/** Characters of the address; the server refuses one that is as long. */
export const LONGEST_QUERY = 4096;

const NOWHERE: Place = { search: "", path: "/", storage: null };

export function readProvider(globals: ProviderGlobals, place: Place = NOWHERE): Provider {
  const registration = globals.getAgentRegistration?.() ?? {};
  const params =
    typeof globals.getProviderURLParams === "function" ? globals.getProviderURLParams() : globals.getProviderURLParams;
  const isPanel = registration.provider_type === PANEL;
  // The mock provider has no platform behind it: all that its function does is to open an alert box.
  const hasPlatform = !isPanel && registration.provider_type !== "mock" && globals.handleSubmitToProvider !== undefined;
  const visitor = new VisitorMemory(place);
  return {
    workerName: globals.getWorkerName?.() ?? null,
    assignmentId: globals.getAssignmentId?.() ?? null,
    get registration() {
      if (!isPanel) return registration;
      return { provider_type: PANEL, query: place.search.slice(0, LONGEST_QUERY), visitor: visitor.recall() };
    },
    urlParams: Object.fromEntries(
      Object.entries(isRecord(params) ? params : {}).map(([key, value]) => [key, String(value)]),
    ),
    hasPlatform,
    isPanel,
    handIn: (data) => {
      if (hasPlatform) globals.handleSubmitToProvider?.(data);
    },
    keepVisitor: (given) => {
      visitor.keep(given);
    },
  };
}

/** What the server has given this browser; in memory only where the browser keeps nothing. */
class VisitorMemory {
  private readonly key: string;
  private known: string | null = null;

  constructor(private readonly place: Place) {
    this.key = `model-chat:visitor:${place.path}`;
  }

  keep(visitor: string): void {
    this.known = visitor;
    try {
      this.place.storage?.setItem(this.key, visitor);
    } catch {
      // Full or forbidden: a reload makes this browser a stranger.
    }
  }

  /** Asked anew each time: another tab may have been given one meanwhile. */
  recall(): string | null {
    try {
      this.known = this.place.storage?.getItem(this.key) ?? this.known;
    } catch {
      // As above.
    }
    return this.known;
  }
}

export function isPreview(provider: Provider): boolean {
  if (provider.isPanel) return false; // the server says what is missing
  const { workerName, assignmentId } = provider;
  return !workerName || !assignmentId || assignmentId === NO_ASSIGNMENT;
}
