import { useEffect, useState, type ReactElement } from "react";
import { ApiError, NOT_REACHED, type Api } from "./api";
import { Meter } from "./charts";
import { count, minutes, money, when } from "./format";
import { Pills } from "./Overview";
import { hashOf } from "./route";
import { Name } from "./Text";
import type { Overview, StudyName } from "./types";

const AGAIN = 10_000;

interface Known {
  overview: Overview | null;
  error: string | null;
}

/** The overviews of several studies, asked for again while any of them runs and the tab is seen. */
function useOverviews(api: Api, studies: StudyName[]): Map<string, Known> {
  const [known, setKnown] = useState(() => new Map<string, Known>());
  useEffect(() => {
    let over = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const load = async (wanted: StudyName[]): Promise<void> => {
      await Promise.all(
        wanted.map(async ({ id }) => {
          let now: Partial<Known>;
          try {
            now = { overview: await api.overview(id), error: null };
          } catch (problem) {
            now = { error: problem instanceof ApiError ? problem.message : NOT_REACHED };
          }
          if (over) return;
          setKnown((before) =>
            new Map(before).set(id, { ...(before.get(id) ?? { overview: null, error: null }), ...now }),
          );
        }),
      );
      const live = studies.filter((study) => study.live);
      if (!over && live.length > 0) {
        timer = setTimeout(() => void load(document.hidden ? [] : live), AGAIN);
      }
    };
    void load(studies);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [api, studies]);
  return known;
}

/** Several studies side by side: the same lines in the same order. */
export function StudiesPage({ api, studies }: { api: Api; studies: StudyName[] }): ReactElement {
  const known = useOverviews(api, studies);
  return (
    <>
      <div className="heading">
        <h1 tabIndex={-1}>Studies</h1>
      </div>
      {studies.length === 0 && (
        <div className="empty">
          <p>There is no study to show.</p>
        </div>
      )}
      <ul className="studies">
        {studies.map((study) => (
          <StudyCard key={study.id} study={study} known={known.get(study.id)} />
        ))}
      </ul>
    </>
  );
}

function StudyCard({ study, known }: { study: StudyName; known: Known | undefined }): ReactElement {
  const overview = known?.overview ?? null;
  return (
    <li className="study">
      <h2>
        <a href={hashOf({ view: "overview", study: study.id })}>
          <Name text={study.title} />
        </a>
      </h2>
      {overview === null ? (
        <p className={known?.error == null ? "quiet" : "alert"}>{known?.error ?? "Loading…"}</p>
      ) : (
        <>
          <Pills overview={overview} />
          <div className="study-progress">
            <p>
              <strong>{count(overview.finished)}</strong>
              <span>{overview.target === null ? " finished" : ` of ${count(overview.target)} finished`}</span>
            </p>
            <Meter parts={[{ value: overview.finished, kind: "done" }]} of={overview.target ?? overview.finished} />
          </div>
          <dl className="pairs">
            {lines(overview).map(([name, value, bad]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd className={bad ? "bad" : ""}>{value}</dd>
              </div>
            ))}
          </dl>
          <p className={overview.warnings.length > 0 ? "bad" : "quiet"}>
            {overview.warnings.length === 0
              ? "No warnings."
              : overview.warnings.map((warning) => warning.text).join(" ")}
          </p>
        </>
      )}
    </li>
  );
}

function lines(overview: Overview): [string, string, boolean][] {
  const { money: paid, workers, forecast, models, now } = overview;
  const failed = models.reduce((sum, model) => sum + model.failures, 0);
  const low = paid.hourly_wage !== null && paid.min_hourly_wage !== null && paid.hourly_wage < paid.min_hourly_wage;
  const complete = overview.target !== null && overview.finished >= overview.target;
  return [
    ["Chatting now", count(workers.chatting), false],
    ["Left before the end", count(workers.left), false],
    ["Time each takes", minutes(overview.minutes.median), false],
    ["Paid per hour", money(paid.hourly_wage, paid.currency), low],
    ["Spent", money(paid.spent, paid.currency), false],
    ["Planned", money(paid.planned, paid.currency), false],
    ["Will be complete", complete ? "complete" : when(forecast.done_at, now), false],
    ["Failures of models", count(failed), failed > 0],
  ];
}
