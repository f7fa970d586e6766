import { useEffect, useRef, useState, type ReactElement } from "react";
import { Alert } from "../components/Alert";
import { Dialog } from "../components/Dialog";
import { useMedia } from "../components/hooks";
import { ActDialog } from "./ActDialog";
import { actOn, DONE, whom, type Target } from "./acting";
import type { Api } from "./api";
import { count, many } from "./format";
import { useKeys, useLoaded, useRemembered } from "./hooks";
import { ConversationCards, ConversationTable, FilterBar, type Note } from "./ListView";
import type { ListPlace, Route } from "./route";
import { hashOf } from "./route";
import { Name } from "./Text";
import { TranscriptView } from "./Transcript";
import {
  may,
  type ActName,
  type ActRequest,
  type ActResult,
  type Item,
  type Overview,
  type Role,
  type Transcript,
} from "./types";

/** Conversations on one page of the list. */
const LIMIT = 50;

const KEYS: [string, string][] = [
  ["j", "next conversation"],
  ["k", "the one before"],
  ["a", "approve it"],
  ["r", "reject it, with a reason"],
  ["b", "pay a bonus for it"],
  ["x", "tick it"],
  ["u", "back to the list"],
  ["/", "search"],
  ["?", "this help"],
];

interface Asked {
  act: ActName;
  targets: Target[];
  /** Of ticked conversations, whose ticks go with it. */
  ticked: boolean;
}

interface Failed {
  target: Target;
  error: string;
}

/** The list of conversations, the open one, and what is done about them. */
export function Review({
  api,
  study,
  role,
  overview,
  route,
  go,
  onPaid,
}: {
  api: Api;
  study: string;
  role: Role;
  overview: Overview | null;
  route: Extract<Route, { view: "conversations" }>;
  go: (to: Route) => void;
  /** After an act, which may have changed what is spent. */
  onPaid: () => void;
}): ReactElement {
  const { list, open } = route;
  const split = useMedia("(min-width: 1100px)");
  const roomForTable = useMedia("(min-width: 760px)");
  const currency = overview?.money.currency ?? "";
  const query = { ...list.filters, sort: list.sort, offset: list.offset, limit: LIMIT };
  const page = useLoaded(JSON.stringify([study, query]), (signal) => api.conversations(study, query, signal), true);
  const whole = useLoaded(JSON.stringify([study, open]), (signal) =>
    open === null ? Promise.resolve(null) : api.conversation(study, open, signal),
  );

  const [ticked, setTicked] = useState<ReadonlyMap<string, Target>>(new Map());
  const [notes, setNotes] = useState<ReadonlyMap<string, Note>>(new Map());
  const [failed, setFailed] = useState<Failed[]>([]);
  const [told, setTold] = useState("");
  const [asked, setAsked] = useState<Asked | null>(null);
  const [help, setHelp] = useState(false);
  const [keysOn, setKeysOn] = useRemembered("model-chat-dashboard-keys", true);
  const busy = useRef(false);

  const items = page.value?.items ?? [];
  const shown = items.length;
  const total = page.value?.total ?? 0;
  const at = items.findIndex((item) => item.id === open);
  const transcript = whole.value;
  const mayAct = may(role, "approve");

  const goTo = (id: string | null, place: ListPlace = list): void => {
    go({ ...route, list: place, open: id });
  };
  const nextPlace: ListPlace = {
    ...list,
    // What was reviewed on this page is no longer in a list of what is to be reviewed.
    offset:
      list.offset +
      items.filter((item) => list.filters.review === undefined || item.review === list.filters.review).length,
  };
  const hasNext = list.offset + shown < total;
  const placeBefore: ListPlace = { ...list, offset: Math.max(0, list.offset - LIMIT) };

  /** The first or last conversation of the page that is coming, to be opened when it is there. */
  const coming = useRef<"first" | "last" | null>(null);
  useEffect(() => {
    if (page.loading || coming.current === null || page.value === null) return;
    const target = coming.current === "first" ? page.value.items[0] : page.value.items.at(-1);
    coming.current = null;
    if (target !== undefined) go({ ...route, open: target.id });
  }, [page.loading, page.value, go, route]);

  const step = (by: 1 | -1): void => {
    if (page.loading) return;
    const target = at < 0 && open !== null ? items[0] : items[at < 0 ? 0 : at + by];
    if (target !== undefined) goTo(target.id);
    else if (by === 1 && hasNext) {
      coming.current = "first";
      goTo(open, nextPlace);
    } else if (by === -1 && list.offset > 0) {
      coming.current = "last";
      goTo(open, placeBefore);
    } else
      setTold(by === 1 ? "This is the last conversation of the list." : "This is the first conversation of the list.");
  };

  // What is opened is read from its beginning.
  const opened = useRef<HTMLDivElement>(null);
  const openedId = transcript?.id ?? null;
  const hadOpen = useRef(false);
  useEffect(() => {
    if (openedId !== null) {
      opened.current?.scrollTo(0, 0);
      opened.current?.querySelector<HTMLElement>("h2")?.focus({ preventScroll: split });
      if (!split) window.scrollTo(0, 0);
    }
  }, [openedId, split]);
  useEffect(() => {
    if (open === null && hadOpen.current) document.querySelector<HTMLElement>("#content h1")?.focus();
    hadOpen.current = open !== null;
  }, [open]);

  const note = (id: string, said: Note): void => {
    setNotes((before) => new Map(before).set(id, said));
  };
  const changeItem = (id: string, changed: Partial<Item>): void => {
    page.change((value) => ({
      ...value,
      items: value.items.map((item) => (item.id === id ? { ...item, ...changed } : item)),
    }));
  };

  const after = (
    request: Pick<ActRequest, "act">,
    targets: Target[],
    results: ActResult[],
    fromTicks: boolean,
  ): void => {
    const byId = new Map(results.map((result) => [result.id, result]));
    const problems: Failed[] = [];
    const fine: string[] = [];
    for (const target of targets) {
      const result = byId.get(target.id);
      if (result?.ok === true) {
        fine.push(target.id);
        note(target.id, { kind: "done", text: capital(DONE[request.act]) + "." });
      } else {
        const error = result?.error ?? "The server has not said what became of this one.";
        problems.push({ target, error });
        note(target.id, { kind: "problem", text: error });
      }
    }
    if (fromTicks) {
      setTicked((before) => new Map([...before].filter(([id]) => !fine.includes(id))));
      setFailed(problems);
      page.reload();
    }
    const failures =
      problems.length === 0
        ? ""
        : ` ${many(problems.length, "conversation was", "conversations were")} not ${DONE[request.act]}.`;
    const only = problems[0];
    setTold(
      fine.length === 0 && problems.length === 1 && only !== undefined
        ? only.error
        : `${many(fine.length, "conversation", "conversations")} ${DONE[request.act]}.${failures}`,
    );
    onPaid();
  };

  const act = async (
    request: Pick<ActRequest, "act" | "reason" | "amount" | "category">,
    what: Asked,
  ): Promise<void> => {
    if (busy.current) return;
    busy.current = true;
    try {
      after(request, what.targets, await actOn(api, study, what.targets, request), what.ticked);
    } finally {
      busy.current = false;
      // Only its own dialog: the reviewer may have opened the next one meanwhile.
      setAsked((now) => (now === what ? null : now));
    }
    const [target] = what.targets;
    if (!what.ticked && target !== undefined) {
      // The row becomes what the server now has: on a conflict, what somebody else has made of it.
      const now = await api.conversation(study, target.id).catch(() => null);
      if (now !== null) {
        const { review, bonus, blocked, version } = now;
        changeItem(target.id, { review, bonus, version, ...(blocked === undefined ? {} : { blocked }) });
        whole.change((value: Transcript | null) => (value?.id === now.id ? now : value));
      }
    } else if (open !== null) whole.reload();
  };

  const targetOf = (one: Transcript): Target => ({
    id: one.id,
    worker: one.worker,
    version: one.version,
    pay: one.pay ?? null,
  });
  const actsOn = (one: Transcript | null): one is Transcript => {
    if (one === null || !mayAct) return false;
    if (one.reviewable !== false) return true;
    setTold("Only a file has this conversation; the crowd platform knows nothing of it.");
    return false;
  };
  const approve = async (): Promise<void> => {
    if (!actsOn(transcript) || busy.current) return;
    if (transcript.review === "approved") {
      setTold("This conversation is approved already.");
      return;
    }
    await act({ act: "approve" }, { act: "approve", targets: [targetOf(transcript)], ticked: false });
  };
  const askAbout = (name: ActName): void => {
    if (actsOn(transcript) && may(role, name)) setAsked({ act: name, targets: [targetOf(transcript)], ticked: false });
  };
  const toggle = (some: readonly (Item | Transcript)[], on: boolean): void => {
    setTicked((before) => {
      const next = new Map(before);
      for (const { id, worker, version, pay } of some) {
        if (on) next.set(id, { id, worker, version, pay: pay ?? null });
        else next.delete(id);
      }
      return next;
    });
  };

  useKeys(
    {
      j: () => {
        step(1);
      },
      k: () => {
        step(-1);
      },
      a: () => void approve(),
      r: () => {
        askAbout("reject");
      },
      b: () => {
        askAbout("bonus");
      },
      x: () => {
        if (actsOn(transcript)) toggle([transcript], !ticked.has(transcript.id));
      },
      u: () => {
        if (open !== null) goTo(null);
      },
      "/": () => {
        if (open !== null && !split) goTo(null);
        requestAnimationFrame(() => {
          document.querySelector<HTMLElement>("[data-testid=search]")?.focus();
        });
      },
      "?": () => {
        setHelp(true);
      },
    },
    keysOn,
  );

  const listProps = {
    study,
    list,
    items,
    open,
    ticked: mayAct ? { has: (id: string) => ticked.has(id), toggle } : null,
    notes,
    currency,
  };
  const chosen = [...ticked.values()];

  return (
    <div className={open === null ? "review" : "review with-open"}>
      <p role="status" className="sr-only" data-testid="told">
        {told}
      </p>
      {open !== null && !split && <h1 className="sr-only">Conversations</h1>}
      {(open === null || split) && (
        <div className="review-list">
          <div className="heading">
            <h1 tabIndex={-1}>Conversations</h1>
            <button
              type="button"
              className="small-button"
              onClick={() => {
                setHelp(true);
              }}
            >
              Keys
            </button>
          </div>
          <FilterBar
            list={list}
            facets={page.value?.facets ?? {}}
            searchable={page.value?.searchable !== false}
            onChange={(place) => {
              goTo(open, place);
            }}
          />
          <Alert text={page.error} />
          {failed.length > 0 && (
            <section className="retry" aria-label="Not done">
              <h2>{many(failed.length, "conversation was left as it is", "conversations were left as they are")}</h2>
              <ul>
                {failed.map(({ target, error }) => (
                  <li key={target.id}>
                    <a href={hashOf({ ...route, open: target.id })}>
                      <Name text={target.worker} />
                    </a>
                    <span className="breaks">{error}</span>
                  </li>
                ))}
              </ul>
              <button
                type="button"
                className="small-button"
                onClick={() => {
                  setFailed([]);
                }}
              >
                I have read this
              </button>
            </section>
          )}
          {chosen.length > 0 && (
            <div className="ticked-bar" role="group" aria-label="Ticked conversations">
              <p>{`Ticked: ${whom(chosen)}`}</p>
              {(["approve", "reject", "bonus", "block"] as const)
                .filter((name) => may(role, name))
                .map((name) => (
                  <button
                    key={name}
                    type="button"
                    className="small-button"
                    onClick={() => {
                      setAsked({ act: name, targets: chosen, ticked: true });
                    }}
                  >
                    {`${capital(name)}…`}
                  </button>
                ))}
              <button
                type="button"
                className="small-button"
                onClick={() => {
                  setTicked(new Map());
                }}
              >
                Untick all
              </button>
            </div>
          )}
          {page.value === null && page.loading && <p role="status">Loading…</p>}
          {page.value !== null && shown === 0 && (
            <div className="empty">
              <p>
                {Object.keys(list.filters).length > 0
                  ? "No conversation fits these filters."
                  : total > 0
                    ? "This page of the list is empty."
                    : "There are no conversations yet."}
              </p>
            </div>
          )}
          {shown > 0 && (
            <div aria-busy={page.loading}>
              {open === null && roomForTable ? (
                <ConversationTable {...listProps} />
              ) : (
                <ConversationCards {...listProps} />
              )}
            </div>
          )}
          {(shown > 0 || list.offset > 0) && (
            <nav className="paging" aria-label="Pages of the list">
              <button
                type="button"
                className="small-button"
                disabled={list.offset === 0}
                onClick={() => {
                  goTo(open, placeBefore);
                }}
              >
                Before
              </button>
              <p>
                {shown === 0
                  ? count(total)
                  : `${count(list.offset + 1)}–${count(list.offset + shown)} of ${count(total)}`}
              </p>
              <button
                type="button"
                className="small-button"
                disabled={!hasNext}
                onClick={() => {
                  goTo(open, nextPlace);
                }}
              >
                Next
              </button>
            </nav>
          )}
        </div>
      )}
      {open !== null && (
        <div className="review-open" ref={opened}>
          <div className="open-bar">
            <button
              type="button"
              className="small-button"
              onClick={() => {
                goTo(null);
              }}
            >
              {split ? "Close" : "Back to the list"}
            </button>
            <span className="spacer" />
            <button
              type="button"
              className="small-button"
              onClick={() => {
                step(-1);
              }}
            >
              Before
            </button>
            <button
              type="button"
              className="small-button"
              onClick={() => {
                step(1);
              }}
            >
              Next
            </button>
          </div>
          <Alert text={whole.error} />
          {transcript === null && whole.loading && <p role="status">Loading…</p>}
          {transcript !== null && (
            <TranscriptView study={study} transcript={transcript} currency={currency}>
              {mayAct && (
                <div className="acts" role="group" aria-label="Acts">
                  {transcript.reviewable === false ? (
                    <p className="quiet">
                      Only a file has this conversation: there is no work on a platform to approve or pay.
                    </p>
                  ) : (
                    <>
                      <button
                        type="button"
                        className="primary-button"
                        aria-disabled={transcript.review === "approved"}
                        aria-keyshortcuts={keysOn ? "a" : undefined}
                        onClick={() => void approve()}
                      >
                        Approve
                      </button>
                      {(["reject", "bonus", transcript.blocked === true ? "unblock" : "block"] as const)
                        .filter((name) => may(role, name))
                        .map((name) => (
                          <button
                            key={name}
                            type="button"
                            className="small-button"
                            onClick={() => {
                              askAbout(name);
                            }}
                          >
                            {name === "bonus"
                              ? "Bonus…"
                              : name.endsWith("block")
                                ? `${capital(name)} worker…`
                                : `${capital(name)}…`}
                          </button>
                        ))}
                      <label className="tick-label">
                        <input
                          type="checkbox"
                          checked={ticked.has(transcript.id)}
                          onChange={(event) => {
                            toggle([transcript], event.target.checked);
                          }}
                        />
                        <span>Tick</span>
                      </label>
                    </>
                  )}
                  <NoteOf note={notes.get(transcript.id)} />
                </div>
              )}
            </TranscriptView>
          )}
        </div>
      )}
      {asked !== null && (
        <ActDialog
          act={asked.act}
          targets={asked.targets}
          currency={currency}
          onAct={(request) => act(request, asked)}
          onClose={() => {
            setAsked(null);
          }}
        />
      )}
      {help && (
        <Dialog
          title="Keys"
          onClose={() => {
            setHelp(false);
          }}
        >
          <dl className="key-list">
            {KEYS.map(([key, does]) => (
              <div key={key}>
                <dt>
                  <kbd>{key}</kbd>
                </dt>
                <dd>{does}</dd>
              </div>
            ))}
          </dl>
          <label className="tick-label">
            <input
              type="checkbox"
              checked={keysOn}
              onChange={(event) => {
                setKeysOn(event.target.checked);
              }}
            />
            <span>Keys are on</span>
          </label>
        </Dialog>
      )}
    </div>
  );
}

function NoteOf({ note }: { note: Note | undefined }): ReactElement | null {
  if (note === undefined) return null;
  return <p className={note.kind === "problem" ? "note bad breaks" : "note good breaks"}>{note.text}</p>;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
