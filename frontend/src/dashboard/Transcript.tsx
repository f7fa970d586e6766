import { Fragment, type ReactElement, type ReactNode } from "react";
import { answer, minutes, money, seconds, words } from "./format";
import { hashOf, WHOLE_LIST } from "./route";
import { Name, Time, Written } from "./Text";
import type { Item, PastAct, Transcript, Turn } from "./types";

export function ReviewPill({ review }: { review: Item["review"] }): ReactElement {
  const names = { pending: "To review", approved: "Approved", rejected: "Rejected", none: "No review" };
  return <span className={`pill review-${review}`}>{names[review]}</span>;
}

export function Signals({ signals }: { signals: string[] }): ReactElement | null {
  if (signals.length === 0) return null;
  return (
    <ul className="chips">
      {signals.map((signal) => (
        <li key={signal} className="chip bad">
          <Name text={words(signal)} />
        </li>
      ))}
    </ul>
  );
}

/** One conversation as a reviewer reads it. `children` stand between its head and its text. */
export function TranscriptView({
  study,
  transcript,
  currency,
  children,
}: {
  study: string;
  transcript: Transcript;
  currency: string;
  children: ReactNode;
}): ReactElement {
  const boxes = transcript.boxes ?? {};
  const ofWorker = hashOf({
    view: "conversations",
    study,
    list: { ...WHOLE_LIST, filters: { worker: transcript.worker } },
    open: null,
  });
  const facts: [string, ReactNode][] = [
    ["Model", <Name key="model" text={transcript.model} />],
    ...(transcript.cell === null
      ? []
      : [["Condition", <Name key="cell" text={transcript.cell} />] as [string, ReactNode]]),
    ["Ended", words(transcript.status)],
    ["Began", <Time key="began" at={transcript.started} />],
    ["Took", minutes(transcript.minutes)],
    ...(transcript.pay == null ? [] : [["Reward", money(transcript.pay, currency)] as [string, ReactNode]]),
    ["Bonus", money(transcript.bonus ?? 0, currency)],
  ];
  return (
    <article className="transcript" aria-label={`Conversation ${transcript.id}`}>
      <div className="transcript-head">
        <h2 tabIndex={-1}>
          <Name text={transcript.worker} />
        </h2>
        <ReviewPill review={transcript.review} />
        {transcript.blocked === true && <span className="pill review-rejected">Worker is blocked</span>}
        <a href={ofWorker}>All of this worker</a>
      </div>
      <dl className="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {transcript.reason != null && transcript.reason !== "" && (
        <p className="quiet breaks">
          <span>Why it ended early: </span>
          <bdi>{transcript.reason}</bdi>
        </p>
      )}
      <Signals signals={transcript.signals} />
      {children}
      <Personas personas={transcript.personas ?? []} />
      <ol className="turns" aria-label="What was said">
        {transcript.turns.length === 0 && <li className="quiet">Nothing was said.</li>}
        {transcript.turns.map((turn, index) => (
          <Fragment key={index}>
            {turn.chat != null && turn.chat !== transcript.turns[index - 1]?.chat && (
              <li>
                <h3>{turn.chat === 0 ? "First chat" : "Second chat"}</h3>
              </li>
            )}
            <TurnView turn={turn} boxes={boxes} />
          </Fragment>
        ))}
      </ol>
      <Answers transcript={transcript} />
      <Checks transcript={transcript} />
      <Timing timing={transcript.timing} />
      <Authenticity counts={transcript.authenticity ?? null} />
      <PastActs acts={transcript.acts} />
    </article>
  );
}

function Personas({ personas }: { personas: string[][] }): ReactElement | null {
  const filled = personas.filter((lines) => lines.length > 0);
  if (filled.length === 0) return null;
  return (
    <details className="numbers">
      <summary>Personas</summary>
      {filled.map((lines, index) => (
        <Written key={index} text={lines.join("\n")} />
      ))}
    </details>
  );
}

function TurnView({ turn, boxes }: { turn: Turn; boxes: Record<string, string> }): ReactElement {
  const compared = turn.replies != null && turn.replies.length > 0;
  return (
    <li className={`said ${turn.who}`}>
      <p className="said-by">
        <span>{turn.who === "worker" ? "Worker" : "Model"}</span>
        {!compared && turn.model != null && <Name text={turn.model} />}
        {turn.seconds !== null && <span>{seconds(turn.seconds)}</span>}
        {turn.said_before === true && <span>part of the beginning</span>}
      </p>
      {compared ? <Compared turn={turn} boxes={boxes} /> : <Written text={turn.text} />}
      {!isMarkedByReply(turn) && <Ticks annotations={turn.annotations ?? {}} boxes={boxes} />}
    </li>
  );
}

/** Whether boxes were ticked for both of two replies. */
function isMarkedByReply({ replies }: Turn): boolean {
  return (replies ?? []).some((reply) => Object.keys(reply.annotations ?? {}).length > 0);
}

function Ticks({
  annotations,
  boxes,
}: {
  annotations: Record<string, unknown>;
  boxes: Record<string, string>;
}): ReactElement | null {
  const ticked = Object.entries(annotations).filter(([, value]) => value !== false && value !== null);
  if (ticked.length === 0) return null;
  return (
    <ul className="chips" aria-label="Boxes that the worker ticked">
      {ticked.map(([key, value]) => (
        <li key={key} className={`chip ${key.startsWith("none") ? "good" : "mark"}`}>
          <Name text={value === true ? (boxes[key] ?? words(key)) : `${boxes[key] ?? words(key)}: ${answer(value)}`} />
        </li>
      ))}
    </ul>
  );
}

const PICKED: Record<string, string> = {
  tie: "The worker found both equally good.",
  both_bad: "The worker found both bad.",
};

function Compared({ turn, boxes }: { turn: Turn; boxes: Record<string, string> }): ReactElement {
  const { picked = null, replies, strength, pick_reason: reason } = turn;
  return (
    <>
      <ul className="sides">
        {(replies ?? []).map((reply) => (
          <li key={reply.side} className={reply.side === picked ? "side picked" : "side"}>
            <p className="said-by">
              <span>{reply.side === "left" ? "Left" : reply.side === "right" ? "Right" : reply.side}</span>
              {reply.model !== null && <Name text={reply.model} />}
              {reply.side === picked && (
                <span className="chip good">{strength == null ? "picked" : `picked, strength ${strength}`}</span>
              )}
              {reply.side === turn.side && reply.side !== picked && (
                <span className="chip">the chat went on with it</span>
              )}
            </p>
            <Written text={reply.text} />
            <Ticks annotations={reply.annotations ?? {}} boxes={boxes} />
          </li>
        ))}
      </ul>
      {picked === null && <p className="quiet">The worker has not picked one.</p>}
      {picked !== null && picked in PICKED && <p className="quiet">{PICKED[picked]}</p>}
      {reason != null && reason !== "" && (
        <div className="pick-reason">
          <p className="quiet">Reason</p>
          <Written text={reason} />
        </div>
      )}
    </>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }): ReactElement {
  return (
    <section className="part">
      <h3>{title}</h3>
      {children}
    </section>
  );
}

function Answers({ transcript }: { transcript: Transcript }): ReactElement | null {
  const answered = new Set(transcript.answers.map((one) => one.question));
  const rows: [string, string, unknown][] = [
    ...Object.entries(transcript.ratings)
      .filter(([question]) => !answered.has(question))
      .map(([question, value]): [string, string, unknown] => ["", question, value]),
    ...transcript.answers.map((one): [string, string, unknown] => [
      one.turn == null ? one.page : `message ${one.turn + 1}`,
      one.question ?? one.id,
      one.answer,
    ]),
  ];
  if (rows.length === 0) return null;
  return (
    <Part title="Answers and ratings">
      <dl className="answers">
        {rows.map(([place, question, value], index) => (
          <div key={index}>
            <dt>
              <bdi className="breaks">{question}</bdi>
              {place !== "" && <span className="role">{words(place)}</span>}
            </dt>
            <dd>
              <Written text={answer(value)} />
            </dd>
          </div>
        ))}
      </dl>
    </Part>
  );
}

function Checks({ transcript }: { transcript: Transcript }): ReactElement | null {
  const checks = transcript.attention_checks ?? [];
  if (checks.length === 0) return null;
  return (
    <Part title="Attention checks">
      <dl className="answers">
        {checks.map((check, index) => (
          <div key={index}>
            <dt>
              <bdi className="breaks">{check.text}</bdi>
              <span className="role">{`after turn ${check.turn}`}</span>
            </dt>
            <dd>
              <Written text={check.answer} />
              <span className={check.passed ? "chip good" : "chip bad"}>{check.passed ? "passed" : "failed"}</span>
            </dd>
          </div>
        ))}
      </dl>
    </Part>
  );
}

/** Later than this it is a time of the clock, else a number of seconds. */
const A_CLOCK_TIME = 1e9;

function Timing({ timing }: { timing: Record<string, unknown> }): ReactElement | null {
  const known = Object.entries(timing).filter(([, value]) => value !== null);
  if (known.length === 0) return null;
  return (
    <Part title="Timing">
      <dl className="facts">
        {known.map(([name, value]) => (
          <div key={name}>
            <dt>{words(name)}</dt>
            <dd>
              {typeof value !== "number" ? answer(value) : value > A_CLOCK_TIME ? <Time at={value} /> : seconds(value)}
            </dd>
          </div>
        ))}
      </dl>
    </Part>
  );
}

/** How the worker's messages were written: a reason to look, and no reason to reject. */
function Authenticity({ counts }: { counts: Record<string, number> | null }): ReactElement | null {
  if (counts === null) return null;
  return (
    <Part title="How the messages were written">
      <dl className="facts">
        {Object.entries(counts).map(([name, value]) => (
          <div key={name}>
            <dt>{words(name)}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <p className="quiet">Counts only. They have innocent causes: nobody is rejected for them.</p>
    </Part>
  );
}

function PastActs({ acts }: { acts: PastAct[] }): ReactElement {
  return (
    <Part title="Acts so far">
      {acts.length === 0 && <p className="quiet">Nobody has acted on this conversation through the dashboard.</p>}
      <ol className="past-acts">
        {acts.map((act, index) => (
          <li key={index}>
            <Time at={act.when} />
            <span>
              <Name text={act.who} />
            </span>
            <span className="strong">{act.amount == null ? words(act.act) : `${words(act.act)} of ${act.amount}`}</span>
            {act.outcome != null && act.outcome !== "done" && <span className="bad">{act.outcome}</span>}
            {act.reason !== null && act.reason !== "" && <bdi className="breaks">{act.reason}</bdi>}
          </li>
        ))}
      </ol>
    </Part>
  );
}
