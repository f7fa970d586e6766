import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ReplyRendererLoader } from "./replyRenderer";

const render = (): null => null;

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

test("nothing is loaded before it is asked for, and then once", async () => {
  const load = vi.fn(() => Promise.resolve(render));
  const loader = new ReplyRendererLoader(load);
  expect(load).not.toHaveBeenCalled();
  const heard = vi.fn();
  loader.subscribe(heard);
  loader.start();
  loader.start();
  await vi.runAllTimersAsync();
  expect(load).toHaveBeenCalledTimes(1);
  expect(heard).toHaveBeenCalledTimes(1);
  expect(loader.getSnapshot()).toBe(render);
});

test("what could not be loaded is asked for again", async () => {
  const load = vi.fn().mockRejectedValueOnce(new Error("network")).mockResolvedValue(render);
  const loader = new ReplyRendererLoader(load);
  loader.start();
  await vi.runAllTimersAsync();
  expect(loader.getSnapshot()).toBe(render);
});

test.each([
  ["never comes", () => new Promise<never>(() => undefined)],
  ["always fails", () => Promise.reject(new Error("404"))],
])("what %s leaves plain text after a while", async (_, load) => {
  const loader = new ReplyRendererLoader(load);
  loader.start();
  await vi.advanceTimersByTimeAsync(5_000);
  expect(loader.getSnapshot()).toBe("loading");
  await vi.runAllTimersAsync();
  expect(loader.getSnapshot()).toBe("failed");
});

test("what comes too late changes nothing that has been read", async () => {
  let arrive: (loaded: typeof render) => void = () => undefined;
  const loader = new ReplyRendererLoader(() => new Promise((resolve) => (arrive = resolve)));
  loader.start();
  await vi.runAllTimersAsync();
  arrive(render);
  await vi.runAllTimersAsync();
  expect(loader.getSnapshot()).toBe("failed");
});
