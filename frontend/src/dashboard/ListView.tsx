import { useEffect, useRef, useState, type ReactElement } from "react";
import { count, minutes, money, short, words } from "./format";
import { plain } from "./reveal";
import { hashOf, type Filters, type ListPlace } from "./route";
import { Name, Time } from "./Text";
import { ReviewPill, Signals } from "./Transcript";
import { FACETS, type Facet, type Item, type Page } from "./types";

export interface Note {
  kind: "done" | "problem";
  text: string;
}

const FACET_NAMES: Record<Facet, string> = {
  model: "Model",
  cell: "Condition",
  status: "Ended",
  review: "Review",
  signal: "Signal",
};
const SORTS: [string, string][] = [
  ["-started", "Newest first"],
  ["started", "Oldest first"],
  ["minutes", "Shortest first"],
  ["-minutes", "Longest first"],
  ["turns", "Fewest turns first"],
  ["-turns", "Most turns first"],
  ["worker", "By worker"],
  ["rating", "Lowest rating first"],
  ["-rating", "Highest rating first"],
];
/** Milliseconds from the last key to the search. */
const TYPING = 350;

export function FilterBar({
  list,
  facets,
  searchable,
  onChange,
}: {
  list: ListPlace;
  facets: Page["facets"];
  searchable: boolean;
  onChange: (list: ListPlace) => void;
}): ReactElement {
  const set = (name: keyof Filters, value: string): void => {
    const filters = { ...list.filters, [name]: value };
    if (value === "") Reflect.deleteProperty(filters, name);
    onChange({ ...list, offset: 0, filters });
  };
  const any = Object.keys(list.filters).length > 0;
  return (
    <form
      className="filters"
      role="search"
      aria-label="Conversations"
      onSubmit={(event) => {
        event.preventDefault();
      }}
    >
      <SearchField
        key={list.filters.q === undefined ? "none" : "some"}
        value={list.filters.q ?? ""}
        label={searchable ? "Search texts, workers, ids" : "Search workers and ids"}
        onSearch={(text) => {
          set("q", text);
        }}
      />
      {FACETS.map((name) => {
        const chosen = list.filters[name];
        const values = Object.entries(facets[name] ?? {});
        if (values.length === 0 && chosen === undefined) return null;
        if (chosen !== undefined && !values.some(([value]) => value === chosen)) values.push([chosen, 0]);
        return (
          <label key={name}>
            <span>{FACET_NAMES[name]}</span>
            <select
              value={chosen ?? ""}
              onChange={(event) => {
                set(name, event.target.value);
              }}
            >
              <option value="">Any</option>
              {values.map(([value, found]) => (
                <option key={value} value={value}>
                  {`${short(name === "model" || name === "cell" ? value : words(value), 60)} (${count(found)})`}
                </option>
              ))}
            </select>
          </label>
        );
      })}
      <label>
        <span>Order</span>
        <select
          value={list.sort}
          onChange={(event) => {
            onChange({ ...list, offset: 0, sort: event.target.value });
          }}
        >
          {SORTS.map(([value, name]) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {list.filters.worker !== undefined && (
        <p className="chip">
          <span>Worker </span>
          <Name text={list.filters.worker} />
        </p>
      )}
      {any && (
        <button
          type="button"
          className="small-button"
          onClick={() => {
            onChange({ filters: {}, sort: list.sort, offset: 0 });
          }}
        >
          Clear filters
        </button>
      )}
    </form>
  );
}

function SearchField({
  value,
  label,
  onSearch,
}: {
  value: string;
  label: string;
  onSearch: (text: string) => void;
}): ReactElement {
  const [typed, setTyped] = useState(value);
  const search = useRef(onSearch);
  useEffect(() => {
    search.current = onSearch;
  });
  const asked = useRef(value);
  useEffect(() => {
    if (typed.trim() === asked.current) return;
    const timer = setTimeout(() => {
      asked.current = typed.trim();
      search.current(asked.current);
    }, TYPING);
    return () => {
      clearTimeout(timer);
    };
  }, [typed]);
  return (
    <label className="search-field">
      <span>{label}</span>
      <input
        type="search"
        data-testid="search"
        maxLength={200}
        value={typed}
        onChange={(event) => {
          setTyped(event.target.value);
        }}
      />
    </label>
  );
}

export interface Ticked {
  has: (id: string) => boolean;
  toggle: (items: Item[], on: boolean) => void;
}

interface ListProps {
  study: string;
  list: ListPlace;
  items: Item[];
  open: string | null;
  /** null: there is nothing that one may do to them. */
  ticked: Ticked | null;
  notes: ReadonlyMap<string, Note>;
  currency: string;
}

function addressOf({ study, list }: ListProps, id: string): string {
  return hashOf({ view: "conversations", study, list, open: id });
}

function Tick({ item, ticked }: { item: Item; ticked: Ticked }): ReactElement {
  return (
    <label className="tick">
      <input
        type="checkbox"
        aria-label={`Tick the conversation of ${plain(item.worker)}`}
        checked={ticked.has(item.id)}
        disabled={item.reviewable === false}
        onChange={(event) => {
          ticked.toggle([item], event.target.checked);
        }}
      />
    </label>
  );
}

/** Of the first rating, for a glance. */
function ratingOf(item: Item): string {
  const [first] = Object.values(item.ratings);
  return typeof first === "number" || typeof first === "string" ? String(first) : "";
}

function NoteLine({ note }: { note: Note | undefined }): ReactElement | null {
  if (note === undefined) return null;
  return <p className={note.kind === "problem" ? "note bad breaks" : "note good breaks"}>{note.text}</p>;
}

/** The list over the whole width. */
export function ConversationTable(props: ListProps): ReactElement {
  const { items, ticked, notes, currency } = props;
  const tickable = items.filter((item) => item.reviewable !== false);
  const cells = items.some((item) => item.cell !== null);
  const head = ["Worker", "Model", ...(cells ? ["Condition"] : []), "Review", "Ended", "Began"];
  return (
    <div className="table-scroll" tabIndex={0} role="group" aria-label="Conversations: table">
      <table className="conversations">
        <thead>
          <tr>
            {ticked !== null && (
              <td>
                <label className="tick">
                  <input
                    type="checkbox"
                    aria-label="Tick all on this page"
                    checked={tickable.length > 0 && tickable.every((item) => ticked.has(item.id))}
                    onChange={(event) => {
                      ticked.toggle(tickable, event.target.checked);
                    }}
                  />
                </label>
              </td>
            )}
            {head.map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
            {["Took", "Turns", "Rating", "Bonus"].map((name) => (
              <th key={name} scope="col" className="number">
                {name}
              </th>
            ))}
            <th scope="col">Signals</th>
          </tr>
        </thead>
        <tbody>
          {items.map((item) => (
            <tr key={item.id} data-testid="row">
              {ticked !== null && (
                <td>
                  <Tick item={item} ticked={ticked} />
                </td>
              )}
              <th scope="row">
                <a href={addressOf(props, item.id)}>
                  <Name text={item.worker} />
                </a>
                <NoteLine note={notes.get(item.id)} />
              </th>
              <td>
                <Name text={item.model} />
              </td>
              {cells && (
                <td>
                  <Name text={item.cell ?? ""} />
                </td>
              )}
              <td>
                <ReviewPill review={item.review} />
              </td>
              <td>{words(item.status)}</td>
              <td className="nowrap">
                <Time at={item.started} />
              </td>
              <td className="number">{minutes(item.minutes)}</td>
              <td className="number">{count(item.turns)}</td>
              <td className="number">{ratingOf(item)}</td>
              <td className="number">{item.bonus === null || item.bonus === 0 ? "" : money(item.bonus, currency)}</td>
              <td>
                <Signals signals={item.signals} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** The list beside an open conversation, and on a phone. */
export function ConversationCards(props: ListProps): ReactElement {
  const { items, open, ticked, notes } = props;
  const current = useRef<HTMLLIElement>(null);
  useEffect(() => {
    current.current?.scrollIntoView({ block: "nearest" });
  }, [open]);
  return (
    <ul className="cards">
      {items.map((item) => (
        <li
          key={item.id}
          ref={item.id === open ? current : null}
          className={item.id === open ? "current" : ""}
          data-testid="row"
        >
          {ticked !== null && <Tick item={item} ticked={ticked} />}
          <div className="card-body">
            <a href={addressOf(props, item.id)} {...(item.id === open ? { "aria-current": "true" as const } : {})}>
              <Name text={item.worker} />
            </a>
            <p className="quiet">
              <Name text={item.model} />
              <span>{words(item.status)}</span>
              <Time at={item.started} />
              <span>{minutes(item.minutes)}</span>
            </p>
            <Signals signals={item.signals} />
            <NoteLine note={notes.get(item.id)} />
          </div>
          <ReviewPill review={item.review} />
        </li>
      ))}
    </ul>
  );
}
