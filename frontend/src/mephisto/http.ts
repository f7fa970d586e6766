/** The router's HTTP side. Every address is relative to the page. */

import { readAgentDetails, readTaskConfig, type AgentDetails, type Json, type TaskConfig } from "../protocol";
import type { Provider } from "./provider";

/** The version that Mephisto's router compares with; another one makes it log a warning for every page. */
const ROUTER_TASK_VERSION = "2.0.3";
const REQUEST_TIMEOUT = 30_000;

/** The server did not answer, or not as it should. */
export class RequestError extends Error {}

export class RouterHttp {
  constructor(
    private readonly base: string,
    private readonly provider: Provider,
    private readonly fetcher: typeof fetch = (...request) => fetch(...request),
  ) {}

  async taskConfig(): Promise<TaskConfig> {
    const { body } = await this.request("task_config.json", { mephisto_task_version: ROUTER_TASK_VERSION });
    return readTaskConfig(body);
  }

  /** Ask to take part; asked again, it answers with the same agent and everything that was said so far. */
  async requestAgent(): Promise<AgentDetails> {
    const details = await this.agentRequest("request_agent", this.provider.registration);
    if (details.visitor === null) return details;
    this.provider.keepVisitor(details.visitor); // before anything is given to this browser: no answer that is lost costs a place
    return this.agentRequest("request_agent", this.provider.registration);
  }

  /** End onboarding; the answer carries the agent of the task. */
  async submitOnboarding(agentId: string): Promise<AgentDetails> {
    return this.agentRequest("submit_onboarding", { USED_AGENT_ID: agentId, onboarding_data: {} });
  }

  async submitTask(agentId: string, finalData: Json): Promise<void> {
    await this.request("submit_task", {}, { USED_AGENT_ID: agentId, final_data: finalData, ...stamp() });
  }

  async logError(agentId: string | null, error: Json): Promise<void> {
    await this.request("log_error", {}, { USED_AGENT_ID: agentId, error_data: error, ...stamp() });
  }

  private async agentRequest(path: string, providerData: Json): Promise<AgentDetails> {
    const { body, clockOffset } = await this.request(path, {}, { provider_data: providerData, ...stamp() });
    return readAgentDetails(body, clockOffset);
  }

  private async request(
    path: string,
    query: Record<string, string>,
    body?: Json,
  ): Promise<{ body: unknown; clockOffset: number }> {
    const url = new URL(path, this.base);
    for (const [key, value] of Object.entries({ ...query, ...this.provider.urlParams }))
      url.searchParams.set(key, value);
    try {
      const response = await this.fetcher(url.href, {
        signal: AbortSignal.timeout(REQUEST_TIMEOUT),
        ...(body === undefined
          ? {}
          : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
      });
      if (!response.ok) throw new RequestError(`${path}: the server answered ${response.status}`);
      const serverTime = Date.parse(response.headers.get("Date") ?? "");
      return {
        body: await response.json(),
        // The header has whole seconds: half a second more is right on average.
        clockOffset: Number.isNaN(serverTime) ? 0 : serverTime + 500 - Date.now(),
      };
    } catch (error) {
      if (error instanceof RequestError) throw error;
      throw new RequestError(`${path}: no answer (${String(error)})`);
    }
  }
}

function stamp(): Json {
  return { client_timestamp: Date.now() / 1000 };
}
