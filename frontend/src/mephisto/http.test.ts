import { expect, test } from "vitest";
import { RouterHttp } from "./http";
import { readProvider } from "./provider";

test("a browser that the server doesn't know keeps what it is given before it is given a place", async () => {
  const asked: unknown[] = [];
  const provider = readProvider(
    { getAgentRegistration: () => ({ provider_type: "panel" }) },
    { search: "?x=1", path: "/", storage: null },
  );
  const answers = [{ visitor: "v.signature" }, { agent_id: "7.s" }];
  const http = new RouterHttp("http://localhost/", provider, (_url, init) => {
    asked.push((JSON.parse(init?.body as string) as { provider_data: unknown }).provider_data);
    return Promise.resolve(Response.json({ data: answers.shift() }));
  });
  const details = await http.requestAgent();
  expect(details.agent_id).toBe("7.s");
  expect(asked).toEqual([
    { provider_type: "panel", query: "?x=1", visitor: null },
    { provider_type: "panel", query: "?x=1", visitor: "v.signature" },
  ]);
});
