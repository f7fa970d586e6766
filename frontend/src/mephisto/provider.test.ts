import { expect, test, vi } from "vitest";
import { isPreview, readProvider } from "./provider";

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
