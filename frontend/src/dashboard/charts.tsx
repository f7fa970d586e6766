/** The dashboard's charts: inline SVG in the colours and marks of the analysis report (analysis/charts.py). */

import type { ReactElement } from "react";
import { label, number, short, when } from "./format";
import { useWidth } from "./hooks";
import { plain } from "./reveal";

/** A filled bar of shares of `of`; the numbers stand beside it as text. */
export function Meter({ parts, of }: { parts: { value: number; kind: string }[]; of: number }): ReactElement {
  const starts = parts.map((_, index) => parts.slice(0, index).reduce((sum, part) => sum + part.value, 0));
  const whole = Math.max(of, (starts.at(-1) ?? 0) + (parts.at(-1)?.value ?? 0), Number.MIN_VALUE);
  return (
    <svg className="meter" aria-hidden="true" focusable="false" preserveAspectRatio="none">
      {parts.map((part, index) =>
        part.value > 0 ? (
          <rect
            key={part.kind}
            className={part.kind}
            x={`${((starts[index] ?? 0) / whole) * 100}%`}
            width={`${(part.value / whole) * 100}%`}
            height="100%"
          />
        ) : null,
      )}
    </svg>
  );
}

/** Round numbers from 0 to at least `top`, about `steps` of them. */
export function ticks(top: number, steps: number): number[] {
  if (!(top > 0) || !Number.isFinite(top)) return [0, 1];
  const raw = top / Math.max(steps, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999) ?? raw;
  return Array.from({ length: Math.ceil((top / step) * 0.9999) + 1 }, (_, index) => index * step);
}

export interface Bar {
  start: number;
  count: number;
}

const HOUR = 3600;
const MOST_BARS = 96;

/** Hours without gaps; days, or more of them, where the hours are too many to be drawn. */
export function bars(points: readonly (readonly [number, number])[]): { size: number; bars: Bar[] } {
  const times = points.map(([time]) => time);
  const first = Math.min(...times);
  const last = Math.max(...times);
  if (points.length === 0 || !Number.isFinite(last - first)) return { size: HOUR, bars: [] };
  let size = HOUR;
  if ((last - first) / size >= MOST_BARS) size = 24 * HOUR;
  while ((last - first) / size >= MOST_BARS) size *= 2;
  const made = Array.from({ length: Math.floor((last - first) / size) + 1 }, (_, index) => ({
    start: first + index * size,
    count: 0,
  }));
  for (const [time, value] of points) {
    const bar = made[Math.floor((time - first) / size)];
    if (bar !== undefined) bar.count += value;
  }
  return { size, bars: made };
}

const LEFT = 38;
const BOTTOM = 24;

export function HourChart({ points, now }: { points: [number, number][]; now: number }): ReactElement {
  const [ref, width] = useWidth<HTMLDivElement>(640);
  const { size, bars: drawn } = bars(points);
  const height = 170;
  const top = Math.max(1, ...drawn.map((bar) => bar.count));
  const marks = ticks(top, Math.min(4, top)).filter((mark) => Number.isInteger(mark));
  const highest = marks.at(-1) ?? top;
  const inner = width - LEFT - 6;
  const step = inner / Math.max(drawn.length, 6);
  const y = (value: number): number => 8 + (height - BOTTOM - 8) * (1 - value / highest);
  const every = Math.max(1, Math.ceil(96 / step)); // labels are up to 96 pixels wide
  const unit = size === HOUR ? "hour" : size === 24 * HOUR ? "day" : `${size / 24 / HOUR} days`;
  const most = drawn.reduce((best, bar) => (bar.count > best.count ? bar : best), { start: 0, count: 0 });
  const all = drawn.reduce((sum, bar) => sum + bar.count, 0);
  const said = `Bar chart of finished conversations per ${unit}: ${all} in all, at most ${most.count}, at ${when(most.start, now)}.`;
  return (
    <figure>
      <div ref={ref} className="chart-place">
        <svg className="chart" role="img" aria-label={said} viewBox={`0 0 ${width} ${height}`} height={height}>
          {marks.map((mark) => (
            <g key={mark}>
              <line className="grid" x1={LEFT} x2={width - 6} y1={y(mark)} y2={y(mark)} />
              <text x={LEFT - 6} y={y(mark) + 4} textAnchor="end">
                {number(mark)}
              </text>
            </g>
          ))}
          {drawn.map((bar, index) => (
            <rect
              key={bar.start}
              className="series-0"
              x={LEFT + index * step + step * 0.12}
              width={Math.max(step * 0.76, 1)}
              y={y(bar.count)}
              height={Math.max(y(0) - y(bar.count), 0)}
            />
          ))}
          <line className="axis" x1={LEFT} x2={width - 6} y1={y(0)} y2={y(0)} />
          {drawn.map((bar, index) =>
            index % every === 0 && (index === 0 || LEFT + index * step + 40 < width) ? (
              <text key={bar.start} x={LEFT + index * step + step * 0.12} y={height - 6}>
                {size === HOUR ? when(bar.start, now) : dayOf(bar.start)}
              </text>
            ) : null,
          )}
        </svg>
      </div>
      <Numbers
        head={[size === HOUR ? "Hour from" : "From", "Finished"]}
        rows={drawn.filter((bar) => bar.count > 0).map((bar) => [when(bar.start, now), number(bar.count)])}
      />
    </figure>
  );
}

function dayOf(time: number): string {
  return new Date(time * 1000).toLocaleDateString("en", { day: "numeric", month: "short" });
}

/** The chart's numbers as a table, for those who don't see it and those who want them. */
function Numbers({ head, rows }: { head: string[]; rows: string[][] }): ReactElement {
  return (
    <details className="numbers">
      <summary>Numbers</summary>
      <div className="table-scroll" tabIndex={0} role="group" aria-label="Numbers of the chart">
        <table>
          <thead>
            <tr>
              {head.map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row, index) => (
              <tr key={index}>
                {row.map((cell, column) => (
                  <td key={column} className={column > 0 ? "number" : ""}>
                    {plain(cell)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

export interface Mark {
  series: number;
  value: number | null;
  low: number | null;
  high: number | null;
}

export interface IntervalRow {
  label: string;
  marks: Mark[];
}

export const MOST_SERIES = 8;

/** A shape a series as well as a colour, as in the report. */
function Shape({ series, x, y }: { series: number; x: number; y: number }): ReactElement {
  const kind = `series-${series % MOST_SERIES}`;
  const paths = [
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
    "M-4 -4h8v8h-8z",
    "M0 -5.5l5 5.5l-5 5.5l-5 -5.5z",
    "M0 -5l5 9h-10z",
    "M0 5l5 -9h-10z",
    "M-1.8 -5h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2z",
    "M0 -5.5l1.5 3.8h4l-3.2 2.5l1.2 4l-3.5 -2.4l-3.5 2.4l1.2 -4l-3.2 -2.5h4z",
    "M-5 -3l2 -2l3 3l3 -3l2 2l-3 3l3 3l-2 2l-3 -3l-3 3l-2 -2l3 -3z",
  ];
  return <path className={kind} d={paths[series % MOST_SERIES] ?? ""} transform={`translate(${x} ${y})`} />;
}

/** A dot plot as the report's: a row a thing, a mark a series, each with its interval. */
export function IntervalChart({
  rows,
  series,
  unit,
  said,
  head,
}: {
  rows: IntervalRow[];
  /** Names for the legend; none is drawn for a single one. */
  series: string[];
  unit: string;
  /** What the chart shows, in a sentence. */
  said: string;
  /** Of the table of numbers: what a row is, the value, the ends of the interval. */
  head: [string, string, string, string];
}): ReactElement {
  const [ref, width] = useWidth<HTMLDivElement>(640);
  const left = Math.min(190, Math.round(width * 0.36));
  const perRow = Math.max(32, Math.min(series.length, MOST_SERIES) * 13 + 10);
  const bottom = 38;
  const height = rows.length * perRow + bottom + 4;
  const values = rows.flatMap((row) => row.marks.flatMap((mark) => [mark.value, mark.high]));
  const marks = ticks(Math.max(0, ...values.filter((value) => value !== null)), Math.max(2, Math.floor(width / 130)));
  const highest = marks.at(-1) ?? 1;
  const x = (value: number): number => left + ((width - left - 14) * Math.max(0, value)) / highest;
  const letters = Math.max(8, Math.floor(left / 7.2));
  return (
    <figure>
      {series.length > 1 && (
        <ul className="legend">
          {series.map((name, index) => (
            <li key={name}>
              <svg viewBox="-7 -7 14 14" width="14" height="14" aria-hidden="true" focusable="false">
                <Shape series={index} x={0} y={0} />
              </svg>
              <bdi>{short(name)}</bdi>
            </li>
          ))}
        </ul>
      )}
      <div ref={ref} className="chart-place">
        <svg className="chart" role="img" aria-label={said} viewBox={`0 0 ${width} ${height}`} height={height}>
          {marks.map((mark) => (
            <g key={mark}>
              <line className="grid" x1={x(mark)} x2={x(mark)} y1={2} y2={height - bottom} />
              <text x={x(mark)} y={height - bottom + 15} textAnchor="middle">
                {number(mark)}
              </text>
            </g>
          ))}
          <text x={(left + width - 14) / 2} y={height - 4} textAnchor="middle" className="unit">
            {unit}
          </text>
          {rows.map((row, index) => (
            <g key={index}>
              {index > 0 && (
                <line className="grid" x1={left} x2={width - 14} y1={2 + index * perRow} y2={2 + index * perRow} />
              )}
              {label(row.label, letters).map((line, number, all) => (
                <text
                  key={number}
                  x={left - 8}
                  y={2 + (index + 0.5) * perRow + 4 + (number - (all.length - 1) / 2) * 14}
                  textAnchor="end"
                >
                  {line}
                </text>
              ))}
              {row.marks.map((mark) => {
                const y = 2 + (index + (mark.series + 0.5) / Math.min(series.length, MOST_SERIES)) * perRow;
                return (
                  <g key={mark.series}>
                    {mark.low !== null && mark.high !== null && (
                      <line
                        className={`interval series-${mark.series}`}
                        x1={x(mark.low)}
                        x2={x(mark.high)}
                        y1={y}
                        y2={y}
                      />
                    )}
                    {mark.value !== null && <Shape series={mark.series} x={x(mark.value)} y={y} />}
                  </g>
                );
              })}
            </g>
          ))}
          <line className="axis" x1={left} x2={left} y1={2} y2={height - bottom} />
        </svg>
      </div>
      <Numbers
        head={series.length > 1 ? [head[0], "Series", head[1], head[2], head[3]] : [...head]}
        rows={rows.flatMap((row) =>
          row.marks.map((mark) => [
            row.label,
            ...(series.length > 1 ? [series[mark.series] ?? ""] : []),
            number(mark.value),
            number(mark.low),
            number(mark.high),
          ]),
        )}
      />
    </figure>
  );
}
