/** Where one is in the dashboard, as the address's hash: it can be kept, sent to a colleague, and gone back from. */

import { FACETS } from "./types";

export const FILTERS = [...FACETS, "worker", "q"] as const;
export type Filter = (typeof FILTERS)[number];
export type Filters = Partial<Record<Filter, string>>;

export interface ListPlace {
  filters: Filters;
  sort: string;
  /** 0-based. */
  offset: number;
}

export type Route =
  | { view: "studies" }
  | { view: "overview"; study: string }
  | { view: "conversations"; study: string; list: ListPlace; open: string | null }
  | { view: "audit"; study: string };

export const DEFAULT_SORT = "-started";
export const WHOLE_LIST: ListPlace = { filters: {}, sort: DEFAULT_SORT, offset: 0 };

/** Read a hash; null where it names no place. */
export function readRoute(hash: string): Route | null {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [first, ...rest] = path.split("/").map(decoded);
  if (first === "" || first === undefined) return null;
  if (first === "studies") return { view: "studies" };
  const [study, view, open] = rest;
  if (first !== "study" || study === undefined || study === "") return null;
  if (view === "audit") return { view, study };
  if (view === "conversations") return { view, study, list: readList(query), open: open ?? null };
  return { view: "overview", study };
}

export function hashOf(route: Route): string {
  if (route.view === "studies") return "#/studies";
  const study = `#/study/${encodeURIComponent(route.study)}`;
  if (route.view !== "conversations") return route.view === "audit" ? `${study}/audit` : study;
  const open = route.open === null ? "" : `/${encodeURIComponent(route.open)}`;
  const query = new URLSearchParams();
  for (const name of FILTERS) {
    const value = route.list.filters[name];
    if (value !== undefined && value !== "") query.set(name, value);
  }
  if (route.list.sort !== DEFAULT_SORT) query.set("sort", route.list.sort);
  if (route.list.offset > 0) query.set("offset", String(route.list.offset));
  const text = query.toString();
  return `${study}/conversations${open}${text === "" ? "" : `?${text}`}`;
}

function readList(query: string): ListPlace {
  const given = new URLSearchParams(query);
  const filters: Filters = {};
  for (const name of FILTERS) {
    const value = given.get(name);
    if (value !== null && value !== "") filters[name] = value;
  }
  const offset = Number(given.get("offset") ?? 0);
  return {
    filters,
    sort: given.get("sort") ?? DEFAULT_SORT,
    offset: Number.isSafeInteger(offset) && offset > 0 ? offset : 0,
  };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a lone percent sign, typed by hand
  }
}
