import { expect, test, vi } from "vitest";
import { isPreview, LONGEST_QUERY, readProvider } from "./provider";

function provider(worker: string | null, assignment: string | null, type = "mock"): ReturnType<typeof readProvider> {
  return readProvider({
    getWorkerName: () => worker,
    getAssignmentId: () => assignment,
    getAgentRegistration: () => ({ provider_type: type }),
    handleSubmitToProvider: vi.fn(),
  });
}

test.each([
  ["w", "a", false],
  [null, "a", true],
  ["w", null, true],
  ["", "", true],
  ["w", "ASSIGNMENT_ID_NOT_AVAILABLE", true], // MTurk, before the worker accepts
])("worker %j and assignment %j: preview is %j", (worker, assignment, preview) => {
  expect(isPreview(provider(worker, assignment))).toBe(preview);
});

test("without wrap_crowd_source.js the page is a preview", () => {
  expect(isPreview(readProvider({}))).toBe(true);
});

test("the platform gets the work, and the mock provider's alert box stays away", () => {
  const handleSubmitToProvider = vi.fn();
  for (const provider_type of ["mturk", "mock"]) {
    const { handIn, hasPlatform } = readProvider({
      getAgentRegistration: () => ({ provider_type }),
      handleSubmitToProvider,
    });
    handIn({ a: 1 });
    expect(hasPlatform).toBe(provider_type === "mturk");
  }
  expect(handleSubmitToProvider.mock.calls).toEqual([[{ a: 1 }]]);
});

test("the platform's own parameters go along, given as a function or not at all", () => {
  expect(readProvider({ getProviderURLParams: () => ({ study: 5 }) }).urlParams).toEqual({ study: "5" });
  expect(readProvider({ getProviderURLParams: { study: "x" } }).urlParams).toEqual({ study: "x" });
  expect(readProvider({}).urlParams).toEqual({});
});

const PANEL = { getAgentRegistration: () => ({ provider_type: "panel" }), handleSubmitToProvider: vi.fn() };

function mapStorage(): Storage {
  const map = new Map<string, string>();
  return {
    getItem: (key: string) => map.get(key) ?? null,
    setItem: (key: string, value: string) => void map.set(key, value),
  } as unknown as Storage;
}

test("a panel's page says its whole address to the server, and is never a preview", () => {
  const provider = readProvider(PANEL, { search: "?PROLIFIC_PID=p&x=1", path: "/", storage: null });
  expect(provider.registration).toEqual({ provider_type: "panel", query: "?PROLIFIC_PID=p&x=1", visitor: null });
  expect([isPreview(provider), provider.isPanel, provider.hasPlatform]).toEqual([false, true, false]);
});

test("no more of an address is sent than the router takes", () => {
  const provider = readProvider(PANEL, { search: `?a=${"x".repeat(9000)}`, path: "/", storage: null });
  expect(provider.registration.query).toHaveLength(LONGEST_QUERY);
});

test("what the server gives a browser is kept for other tabs and reloads, for each study by itself", () => {
  const storage = mapStorage();
  readProvider(PANEL, { search: "", path: "/cats/", storage }).keepVisitor("v.signature");
  expect(readProvider(PANEL, { search: "", path: "/cats/", storage }).registration.visitor).toBe("v.signature");
  expect(readProvider(PANEL, { search: "", path: "/dogs/", storage }).registration.visitor).toBeNull();
});

test("a browser that keeps nothing is known as long as its page is open", () => {
  const provider = readProvider(PANEL, { search: "", path: "/", storage: null });
  provider.keepVisitor("v.signature");
  expect(provider.registration.visitor).toBe("v.signature");
});
