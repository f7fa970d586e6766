import { useEffect, useRef, useState, type ReactElement, type ReactNode } from "react";
import { Icon } from "../components/Icon";
import { HourChart, IntervalChart, Meter, MOST_SERIES, type IntervalRow } from "./charts";
import { ago, count, many, minutes, money, number, seconds, short, UNKNOWN, words } from "./format";
import { Name, Time } from "./Text";
import type { CellProgress, Chatting, Estimate, ModelProgress, Money, Overview } from "./types";

export function Section({
  title,
  note,
  children,
}: {
  title: string;
  note?: string;
  children: ReactNode;
}): ReactElement {
  return (
    <section className="section">
      <h2>{title}</h2>
      {note !== undefined && <p className="quiet">{note}</p>}
      {children}
    </section>
  );
}

export function stateOf(overview: Overview): { text: string; kind: string } {
  if (!overview.live) return { text: "Not running", kind: "over" };
  return overview.accepting
    ? { text: "Running", kind: "on" }
    : { text: "Running, takes no new workers", kind: "paused" };
}

export function Pills({ overview }: { overview: Overview }): ReactElement {
  const state = stateOf(overview);
  return (
    <span className="pills">
      <span className={`pill ${state.kind}`}>{state.text}</span>
      {overview.blind && (
        <span className="pill" title="The models' names are hidden until the analysis.">
          Blind: names hidden
        </span>
      )}
    </span>
  );
}

/** A piece of the overview: what it is, and one number. */
function Tile({ name, value, children }: { name: string; value: string; children?: ReactNode }): ReactElement {
  return (
    <div className="tile">
      <dt>{name}</dt>
      <dd>
        <strong>{value}</strong>
        {children}
      </dd>
    </div>
  );
}

/** New warnings are told to screen readers; those that were there before are not told again. */
function Warnings({ overview }: { overview: Overview }): ReactElement {
  const known = useRef<Set<string> | null>(null);
  const [told, setTold] = useState("");
  const { warnings } = overview;
  useEffect(() => {
    const now = new Set(warnings.map((warning) => warning.code));
    const before = known.current;
    known.current = now;
    const fresh = before === null ? [] : warnings.filter((warning) => !before.has(warning.code));
    if (fresh.length > 0) setTold(`New warning: ${fresh.map((warning) => warning.text).join(" ")}`);
  }, [warnings]);
  return (
    <>
      <p role="status" className="sr-only">
        {told}
      </p>
      {warnings.length > 0 && (
        <section className="warnings" aria-label="Warnings">
          <h2 className="sr-only">Warnings</h2>
          <ul>
            {warnings.map((warning, index) => (
              <li key={index} className="alert">
                <Icon name="warning" />
                <span className="breaks">{warning.text}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function Tiles({ overview }: { overview: Overview }): ReactElement {
  const { workers, forecast, money: paid, now } = overview;
  const wage = paid.hourly_wage;
  const least = paid.min_hourly_wage;
  const low = wage !== null && least !== null && wage < least;
  return (
    <dl className="tiles">
      <Tile
        name="Finished"
        value={
          overview.target === null
            ? count(overview.finished)
            : `${count(overview.finished)} of ${count(overview.target)}`
        }
      >
        {overview.target !== null && (
          <Meter
            parts={[
              { value: Math.min(overview.finished, overview.target), kind: "done" },
              { value: Math.min(workers.chatting, Math.max(0, overview.target - overview.finished)), kind: "now" },
            ]}
            of={overview.target}
          />
        )}
      </Tile>
      <Tile name="At work" value={count(workers.chatting)}>
        <p>
          {[
            `${count(workers.waiting)} waiting`,
            `${count(workers.onboarding)} in onboarding`,
            `${count(workers.left)} left`,
          ].join(" · ")}
        </p>
      </Tile>
      <Tile name="Will be complete" value={doneAt(overview)}>
        {forecast.cost !== null && <p>{`for ${money(forecast.cost, paid.currency)} in all`}</p>}
      </Tile>
      <Tile name="Paid per hour" value={money(wage, paid.currency)}>
        <p className={low ? "bad" : ""}>
          {least === null
            ? "no minimum is set"
            : low
              ? `below your minimum of ${money(least, paid.currency)}`
              : `your minimum is ${money(least, paid.currency)}`}
        </p>
      </Tile>
      <Tile name="Time each takes" value={minutes(overview.minutes.median)}>
        {overview.minutes.p90 !== null && <p>{`median; 9 of 10 within ${minutes(overview.minutes.p90)}`}</p>}
      </Tile>
      <Tile name="Running since" value={overview.started === null ? UNKNOWN : ago(overview.started, now)}>
        <p>
          <Time at={overview.started} now={now} />
        </p>
      </Tile>
    </dl>
  );
}

function doneAt({ forecast, target, finished, now }: Overview): string {
  if (target !== null && finished >= target) return "complete";
  if (forecast.done_at === null) return "not known";
  const left = forecast.done_at - now;
  if (left < 60) return "within a minute";
  return `in ${ago(2 * now - forecast.done_at, now)}`;
}

function ProgressTable({
  title,
  rows,
  models,
}: {
  title: string;
  rows: CellProgress[];
  /** With what only models have. */
  models: ModelProgress[] | null;
}): ReactElement {
  return (
    <div className="table-scroll" tabIndex={0} role="group" aria-label={`${title}: table`}>
      <table className="progress-table">
        <thead>
          <tr>
            <th scope="col">{models === null ? "Condition" : "Model"}</th>
            <th scope="col" className="number">
              Finished
            </th>
            <td className="meter-cell" />
            <th scope="col" className="number">
              Chatting
            </th>
            {models !== null && (
              <>
                <th scope="col" className="number">
                  Replies
                </th>
                <th scope="col" className="number">
                  Failures
                </th>
              </>
            )}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => {
            const model = models?.[index];
            return (
              <tr key={row.name}>
                <th scope="row">
                  <Name text={row.name} />
                </th>
                <td className="number">
                  {row.wanted === null ? count(row.finished) : `${count(row.finished)} of ${count(row.wanted)}`}
                </td>
                <td className="meter-cell">
                  <Meter
                    parts={[
                      { value: row.finished, kind: "done" },
                      { value: row.chatting, kind: "now" },
                    ]}
                    of={row.wanted ?? Math.max(1, ...rows.map((other) => other.finished + other.chatting))}
                  />
                </td>
                <td className="number">{count(row.chatting)}</td>
                {model !== undefined && (
                  <>
                    <td className="number">{count(model.replies)}</td>
                    <td className={`number ${model.failures > 0 ? "bad" : ""}`}>{failures(model)}</td>
                  </>
                )}
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function failures({ failures: failed, replies }: ModelProgress): string {
  if (failed === 0) return "0";
  const tried = failed + replies;
  return `${count(failed)} (${number((failed / tried) * 100, 1)} %)`;
}

function MoneySection({ paid, cost }: { paid: Money; cost: number | null }): ReactElement {
  const spent = paid.spent ?? 0;
  const committed = paid.committed ?? 0;
  const planned = paid.planned ?? spent + committed;
  const over = cost !== null && paid.planned !== null && cost > paid.planned * 1.005;
  return (
    <Section title="Money" note="Spent is paid or sure to be paid; committed is for conversations that are going on.">
      <Meter
        parts={[
          { value: spent, kind: "done" },
          { value: committed, kind: "now" },
        ]}
        of={planned}
      />
      <dl className="pairs">
        <div>
          <dt>
            <span className="key done" aria-hidden="true" />
            <span>Spent</span>
          </dt>
          <dd>{money(paid.spent, paid.currency)}</dd>
        </div>
        <div>
          <dt>
            <span className="key now" aria-hidden="true" />
            <span>Committed</span>
          </dt>
          <dd>{money(paid.committed, paid.currency)}</dd>
        </div>
        <div>
          <dt>
            <span className="key rest" aria-hidden="true" />
            <span>Planned in all</span>
          </dt>
          <dd>{money(paid.planned, paid.currency)}</dd>
        </div>
        <div>
          <dt>
            <span>Forecast in all</span>
          </dt>
          <dd className={over ? "bad" : ""}>
            {over ? `${money(cost, paid.currency)}, more than planned` : money(cost, paid.currency)}
          </dd>
        </div>
        {paid.models_usd != null && (
          <div>
            <dt>
              <span>Models, besides</span>
            </dt>
            <dd>
              {paid.models_limit_usd == null
                ? money(paid.models_usd, "USD")
                : `${money(paid.models_usd, "USD")} of at most ${money(paid.models_limit_usd, "USD")}`}
            </dd>
          </div>
        )}
      </dl>
    </Section>
  );
}

const MOST_CHATTING = 10;

function NowChatting({ rows, now }: { rows: Chatting[]; now: number }): ReactElement {
  const [all, setAll] = useState(false);
  const shown = all ? rows : rows.slice(0, MOST_CHATTING);
  return (
    <>
      <div className="table-scroll" tabIndex={0} role="group" aria-label="Chatting now: table">
        <table>
          <thead>
            <tr>
              <th scope="col">Worker</th>
              <th scope="col">Model</th>
              <th scope="col" className="number">
                Turn
              </th>
              <th scope="col" className="number">
                For
              </th>
            </tr>
          </thead>
          <tbody>
            {shown.map((row, index) => (
              <tr key={index}>
                <th scope="row">
                  <Name text={row.worker} />
                </th>
                <td>
                  <Name text={row.model ?? "not chosen yet"} />
                </td>
                <td className="number">{`${row.turn} of ${row.turns}`}</td>
                <td className="number">{ago(row.since, now)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows.length > MOST_CHATTING && (
        <button
          type="button"
          className="small-button"
          aria-expanded={all}
          onClick={() => {
            setAll(!all);
          }}
        >
          {all ? "Show fewer" : `Show all ${rows.length}`}
        </button>
      )}
    </>
  );
}

function LeftAt({ rows }: { rows: Overview["left_at"] }): ReactElement {
  const sorted = [...rows].sort((one, other) => other.count - one.count);
  const most = Math.max(1, ...sorted.map((row) => row.count));
  return (
    <div className="table-scroll" tabIndex={0} role="group" aria-label="Where workers left: table">
      <table className="progress-table">
        <thead>
          <tr>
            <th scope="col">Left at</th>
            <th scope="col" className="number">
              Workers
            </th>
            <td className="meter-cell" />
          </tr>
        </thead>
        <tbody>
          {sorted.map((row) => (
            <tr key={row.where}>
              <th scope="row">
                <Name text={row.where} />
              </th>
              <td className="number">{count(row.count)}</td>
              <td className="meter-cell">
                <Meter parts={[{ value: row.count, kind: "left" }]} of={most} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Latency({ models }: { models: ModelProgress[] }): ReactElement | null {
  const known = models.filter((model) => model.latency_p50 !== null);
  if (known.length === 0) return null;
  const said = known
    .map(
      (model) =>
        `${short(model.name)}: half within ${seconds(model.latency_p50)}, 95 % within ${seconds(model.latency_p95)}`,
    )
    .join("; ");
  return (
    <Section
      title="Time that models take"
      note="Half of the replies came within the time at the mark, 95 % within that at the end of the line."
    >
      <IntervalChart
        rows={known.map((model) => ({
          label: model.name,
          marks: [{ series: 0, value: model.latency_p50, low: model.latency_p50, high: model.latency_p95 }],
        }))}
        series={["all"]}
        unit="seconds for a reply"
        said={`Dot plot of the time for a reply. ${said}.`}
        head={["Model", "Half within", "From", "95 % within"]}
      />
    </Section>
  );
}

function Estimates({ estimates }: { estimates: Estimate[] }): ReactElement | null {
  if (estimates.length === 0) return null;
  const models = [...new Set(estimates.map((estimate) => estimate.model))].slice(0, MOST_SERIES);
  const groups = new Map<string, IntervalRow>();
  for (const estimate of estimates) {
    const series = models.indexOf(estimate.model);
    if (series < 0) continue;
    const row = groups.get(estimate.box_or_rating) ?? { label: words(estimate.box_or_rating), marks: [] };
    row.marks.push({ series, value: estimate.value, low: estimate.low, high: estimate.high });
    groups.set(estimate.box_or_rating, row);
  }
  // Rates are below 1 and ratings above: one axis for both would flatten the rates.
  const rows = [...groups.values()];
  const means = new Set(estimates.filter((one) => one.kind === "mean").map((one) => words(one.box_or_rating)));
  const isRating = (row: IntervalRow): boolean => means.has(row.label);
  const parts: [string, IntervalRow[]][] = [
    ["share of replies", rows.filter((row) => !isRating(row))],
    ["mean rating", rows.filter(isRating)],
  ];
  return (
    <Section
      title="Results so far"
      note="Confidence sequences: the intervals hold at any time, however often you look. Stop by the plan of the study, not by a single look."
    >
      {parts.map(([unit, own]) =>
        own.length === 0 ? null : (
          <IntervalChart
            key={unit}
            rows={own}
            series={models}
            unit={unit}
            said={`Dot plot of ${many(own.length, "estimate", "estimates")} (${unit}) for ${many(models.length, "model", "models")}; the table has the numbers.`}
            head={["Box or rating", "Value", "Low", "High"]}
          />
        ),
      )}
    </Section>
  );
}

/** All that is known of one study, warnings first. */
export function OverviewPage({ overview, controls }: { overview: Overview; controls: ReactNode }): ReactElement {
  const { now } = overview;
  const empty = overview.finished === 0 && overview.now_chatting.length === 0;
  return (
    <>
      <div className="heading">
        <div>
          <h1 tabIndex={-1}>
            <Name text={overview.title} />
          </h1>
          <Pills overview={overview} />
        </div>
        {controls}
      </div>
      <Warnings overview={overview} />
      <Tiles overview={overview} />
      {overview.forecast.assumption !== "" && (
        <p className="quiet assumption">
          <span className="strong">Forecast: </span>
          <span>{overview.forecast.assumption}</span>
        </p>
      )}
      {empty && (
        <div className="empty">
          <Icon name="chat" className="notice-icon" />
          <p>
            {overview.live
              ? "Nobody has come yet. What happens appears here by itself."
              : "This study has no finished conversations."}
          </p>
        </div>
      )}
      <div className="columns">
        {overview.models.length > 0 && (
          <Section title="Models">
            <ProgressTable title="Models" rows={overview.models} models={overview.models} />
          </Section>
        )}
        {overview.cells.length > 0 && (
          <Section title="Conditions">
            <ProgressTable title="Conditions" rows={overview.cells} models={null} />
          </Section>
        )}
        {overview.finished_by_hour.length > 0 && (
          <Section title="Finished conversations">
            <HourChart points={overview.finished_by_hour} now={now} />
          </Section>
        )}
        {overview.now_chatting.length > 0 && (
          <Section title="Chatting now">
            <NowChatting rows={overview.now_chatting} now={now} />
          </Section>
        )}
        <MoneySection paid={overview.money} cost={overview.forecast.cost} />
        <Latency models={overview.models} />
        {overview.left_at.length > 0 && (
          <Section title="Where workers left">
            <LeftAt rows={overview.left_at} />
          </Section>
        )}
        <Estimates estimates={overview.estimates} />
      </div>
    </>
  );
}
