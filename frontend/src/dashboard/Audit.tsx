import { useState, type ReactElement } from "react";
import { Alert } from "../components/Alert";
import type { Api } from "./api";
import { answer, count, many, words } from "./format";
import { useLoaded } from "./hooks";
import { Name, Time } from "./Text";
import type { AuditItem } from "./types";

/** What was done through the dashboard, newest first as the server gives it, a page at a time. */
export function AuditPage({ api, study }: { api: Api; study: string }): ReactElement {
  /** Where the pages begin that were passed: a page has as many acts as the server gives. */
  const [passed, setPassed] = useState<number[]>([]);
  const [offset, setOffset] = useState(0);
  const { value, error, loading, reload } = useLoaded(
    `${study} ${offset}`,
    (signal) => api.audit(study, offset, signal),
    true,
  );
  const shown = value?.items.length ?? 0;
  return (
    <>
      <div className="heading">
        <div>
          <h1 tabIndex={-1}>Audit log</h1>
          <p className="quiet">Every act through the dashboard: who, when, what, before and after.</p>
        </div>
        <button type="button" className="small-button" onClick={reload}>
          Load again
        </button>
      </div>
      <Alert text={error} />
      {value === null && loading && <p role="status">Loading…</p>}
      {value !== null && value.total === 0 && (
        <div className="empty">
          <p>Nothing has been done through the dashboard yet.</p>
        </div>
      )}
      {value !== null && shown > 0 && (
        <>
          <div className="table-scroll" tabIndex={0} role="group" aria-label="Audit log: table" aria-busy={loading}>
            <table className="audit">
              <thead>
                <tr>
                  {["When", "Who", "What", "On", "Before → after", "Reason"].map((name) => (
                    <th key={name} scope="col">
                      {name}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {value.items.map((item, index) => (
                  <AuditRow key={index} item={item} />
                ))}
              </tbody>
            </table>
          </div>
          <nav className="paging" aria-label="Pages of the audit log">
            <button
              type="button"
              className="small-button"
              disabled={offset === 0}
              onClick={() => {
                setOffset(passed.at(-1) ?? 0);
                setPassed(passed.slice(0, -1));
              }}
            >
              Newer
            </button>
            <p role="status">{`${count(offset + 1)}–${count(offset + shown)} of ${many(value.total, "act", "acts")}`}</p>
            <button
              type="button"
              className="small-button"
              disabled={offset + shown >= value.total}
              onClick={() => {
                setPassed([...passed, offset]);
                setOffset(offset + shown);
              }}
            >
              Older
            </button>
          </nav>
        </>
      )}
    </>
  );
}

function AuditRow({ item }: { item: AuditItem }): ReactElement {
  return (
    <tr>
      <td className="nowrap">
        <Time at={item.when} />
      </td>
      <td>
        <Name text={item.who} />
        <span className="role">{item.role}</span>
      </td>
      <td>
        <span className="block">{words(item.act)}</span>
        {item.amount != null && <span className="block">{String(item.amount)}</span>}
        {item.outcome != null && item.outcome !== "done" && <span className="block bad">{item.outcome}</span>}
      </td>
      <td>
        <Name text={item.target ?? ""} />
        {item.worker != null && <Name text={item.worker} />}
      </td>
      <td className="breaks">
        {item.before === null && item.after === null ? "" : `${answer(item.before)} → ${answer(item.after)}`}
      </td>
      <td className="breaks">
        <bdi>{item.reason ?? ""}</bdi>
      </td>
    </tr>
  );
}
