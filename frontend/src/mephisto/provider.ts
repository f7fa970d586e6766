/**
 * Who the worker is and how work is handed in: the functions that the crowd platform's `wrap_crowd_source.js` defines on
 * the page. Mephisto puts the file that fits the platform beside the page.
 */

import { isRecord, type Json } from "../protocol";

export interface Provider {
  /** Null while the worker only previews the task. */
  workerName: string | null;
  assignmentId: string | null;
  registration: Json;
  /** Further parameters that the platform wants on every request. */
  urlParams: Record<string, string>;
  /** Whether there is a crowd platform; the mock provider has none. */
  hasPlatform: boolean;
  /** Tell the platform that the work is done; on MTurk this leaves the page. */
  handIn: (data: Json) => void;
}

interface ProviderGlobals {
  getWorkerName?: () => string | null;
  getAssignmentId?: () => string | null;
  getAgentRegistration?: () => Json;
  handleSubmitToProvider?: (data: Json) => unknown;
  getProviderURLParams?: Json | (() => Json);
}

/** What MTurk gives instead of an assignment while a worker looks at a task without accepting it. */
const NO_ASSIGNMENT = "ASSIGNMENT_ID_NOT_AVAILABLE";

export function readProvider(globals: ProviderGlobals): Provider {
  const registration = globals.getAgentRegistration?.() ?? {};
  const params =
    typeof globals.getProviderURLParams === "function" ? globals.getProviderURLParams() : globals.getProviderURLParams;
  // The mock provider has no platform behind it: all that its function does is to open an alert box.
  const hasPlatform = registration.provider_type !== "mock" && globals.handleSubmitToProvider !== undefined;
  return {
    workerName: globals.getWorkerName?.() ?? null,
    assignmentId: globals.getAssignmentId?.() ?? null,
    registration,
    urlParams: Object.fromEntries(
      Object.entries(isRecord(params) ? params : {}).map(([key, value]) => [key, String(value)]),
    ),
    hasPlatform,
    handIn: (data) => {
      if (hasPlatform) globals.handleSubmitToProvider?.(data);
    },
  };
}

export function isPreview(provider: Provider): boolean {
  const { workerName, assignmentId } = provider;
  return !workerName || !assignmentId || assignmentId === NO_ASSIGNMENT;
}
