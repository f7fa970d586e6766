/** Acts on conversations: what is asked before them, and what is said after them. */

import { ApiError, type Api } from "./api";
import { many, money } from "./format";
import { MOST_IDS, type ActName, type ActRequest, type ActResult, type Item } from "./types";

/** What an act needs to know of a conversation. */
export type Target = Pick<Item, "id" | "worker" | "version" | "pay">;

export const DONE: Record<ActName, string> = {
  approve: "approved",
  reject: "rejected",
  bonus: "paid a bonus",
  block: "blocked",
  unblock: "unblocked",
};

export const UNSURE =
  "The answer did not arrive, so it isn’t known whether this was done. Look at the conversation’s acts before you repeat it.";

/** "3 conversations of 2 workers". */
export function whom(targets: readonly Target[]): string {
  const workers = new Set(targets.map((target) => target.worker)).size;
  return `${many(targets.length, "conversation", "conversations")} of ${many(workers, "worker", "workers")}`;
}

/** An amount as typed, in cents at most; null where it is none. */
export function amountOf(typed: string): number | null {
  const text = typed.trim().replace(",", ".");
  if (!/^\d{1,5}(\.\d{1,2})?$/.test(text)) return null;
  const amount = Number(text);
  return amount > 0 ? amount : null;
}

/** What is paid in all. It is counted in cents: sums of fractions are inexact. */
export function total(amount: number, targets: readonly Target[]): number {
  return (Math.round(amount * 100) * targets.length) / 100;
}

/** What approvals pay, in words; "" where it isn't known. */
export function approvalPay(targets: readonly Target[], currency: string): string {
  let cents = 0;
  for (const { pay } of targets) {
    if (pay == null) return "";
    cents += Math.round(pay * 100);
  }
  return money(cents / 100, currency);
}

/** Do it, in as many requests as it takes. An answer that did not arrive is no success: the rest isn't sent. */
export async function actOn(
  api: Api,
  study: string,
  targets: readonly Target[],
  act: Pick<ActRequest, "act" | "reason" | "amount" | "category">,
): Promise<ActResult[]> {
  const results: ActResult[] = [];
  for (let start = 0; start < targets.length; start += MOST_IDS) {
    const part = targets.slice(start, start + MOST_IDS);
    try {
      results.push(
        ...(await api.act(study, {
          ...act,
          ids: part.map((target) => target.id),
          versions: Object.fromEntries(part.map((target) => [target.id, target.version])),
        })),
      );
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      const sure = problem.status >= 400 && problem.status < 500;
      results.push(
        ...part.map(({ id }) => ({ id, ok: false, error: sure ? problem.message : UNSURE })),
        ...targets.slice(start + MOST_IDS).map(({ id }) => ({ id, ok: false, error: "This was not tried." })),
      );
      break;
    }
  }
  return results;
}
