// The month's chart: a column a day, with a part for each desktop. It is one control: arrow keys lead to another day.
import { useState } from "react";
import { dollars } from "@/money/money";
import type { Usage } from "@/money/queries";
import { dayAfter, layout, tickWords, type Column } from "./chart";
import { dayName, shortDay } from "./months";

/** By Series.colour. Each keeps 3:1 against the panel in its theme; lines of the panel's colour separate the parts. */
const fills = [
  "light-dark(#4338ca, #9a9dff)",
  "light-dark(#0f766e, #4fd1c5)",
  "light-dark(#b45309, #f5b04c)",
  "light-dark(#be185d, #f78fb8)",
  "light-dark(#0369a1, #63b8f5)",
  "light-dark(#4d7c0f, #a3d65c)",
  "light-dark(#7e22ce, #cf9bff)",
  "light-dark(#565c69, #a5acba)",
];

const columnWidth = 12; // in units of the drawing, which is stretched to the width of the page

/** Returns a day in words: what was spent, and on which desktops. */
function words({ day, micros, parts }: Column): string {
  const each = parts.toReversed().map((p) => `${p.series.name} ${dollars(p.micros)}`);
  return `${dayName(day)}: ${micros === 0 ? "nothing" : dollars(micros)}${each.length > 0 ? `. ${each.join("; ")}` : ""}`;
}

export function UsageChart({ usage }: { usage: Usage }) {
  const { series, columns, ticks } = layout(usage);
  const latest = Math.max(
    0,
    columns.findLastIndex((c) => c.micros > 0),
  );
  const [chosen, choose] = useState<number>();
  const at = Math.min(chosen ?? latest, columns.length - 1);
  const column = columns[at];
  if (!column) return null;
  const width = columns.length * columnWidth;
  const every = Math.ceil(columns.length / 4); // days from one label to the next: there is room for four
  return (
    <div>
      <div className="grid grid-cols-[auto_minmax(0,1fr)] gap-x-2">
        <div aria-hidden="true" className="relative h-56 min-w-12 text-right text-xs text-muted tabular-nums">
          {ticks.map((t) => (
            <span key={t.micros} className="absolute right-0 translate-y-1/2" style={{ bottom: `${t.bottom}%` }}>
              {tickWords(t.micros)}
            </span>
          ))}
        </div>
        <div
          role="slider"
          tabIndex={0}
          aria-label="Costs by day"
          aria-orientation="horizontal"
          aria-valuemin={1}
          aria-valuemax={columns.length}
          aria-valuenow={at + 1}
          aria-valuetext={words(column)}
          aria-describedby="chart-keys"
          onKeyDown={(e) => {
            const to = dayAfter(e.key, at, columns.length);
            if (to === undefined || e.altKey || e.ctrlKey || e.metaKey) return;
            e.preventDefault();
            choose(to);
          }}
          onPointerDown={(e) => {
            const box = e.currentTarget.getBoundingClientRect();
            choose(Math.max(0, Math.floor(((e.clientX - box.left) / box.width) * columns.length)));
          }}
          className="h-56 cursor-pointer rounded-md"
        >
          <svg
            aria-hidden="true"
            viewBox={`0 0 ${width} 100`}
            preserveAspectRatio="none"
            className="size-full overflow-visible"
          >
            {ticks.map((t) => (
              <line
                key={t.micros}
                x1="0"
                x2={width}
                y1={100 - t.bottom}
                y2={100 - t.bottom}
                className="stroke-line"
                vectorEffect="non-scaling-stroke"
              />
            ))}
            <rect x={at * columnWidth} y="0" width={columnWidth} height="100" className="fill-accent-soft" />
            {columns.map((c, n) =>
              c.parts.map((p) => (
                <rect
                  key={`${c.day} ${p.series.id}`}
                  x={n * columnWidth + 2}
                  y={100 - p.bottom - p.height}
                  width={columnWidth - 4}
                  height={p.height}
                  style={{ fill: fills[p.series.colour] }}
                  className="stroke-panel forced-colors:stroke-[CanvasText]"
                  vectorEffect="non-scaling-stroke"
                />
              )),
            )}
            <rect
              x={at * columnWidth}
              y="0"
              width={columnWidth}
              height="100"
              className="fill-none stroke-outline forced-colors:stroke-[Highlight]"
              vectorEffect="non-scaling-stroke"
            />
          </svg>
        </div>
        <div
          aria-hidden="true"
          className="col-start-2 mt-1 grid text-xs text-muted"
          style={{ gridTemplateColumns: `repeat(${columns.length}, minmax(0, 1fr))` }}
        >
          {columns.map((c, n) => (
            <span key={c.day} className="h-4 whitespace-nowrap">
              {n % every === 0 && n + every <= columns.length && shortDay(c.day)}
            </span>
          ))}
        </div>
      </div>
      <p id="chart-keys" className="sr-only">
        Press the arrow keys for another day, Home for the first and End for the last. The table below has the same
        figures.
      </p>
      <div aria-hidden="true" className="mt-4 text-sm" data-day={column.day}>
        <p className="font-medium">
          {dayName(column.day)}: <span className="tabular-nums">{dollars(column.micros)}</span>
        </p>
        <ul className="mt-1 flex flex-wrap gap-x-5 gap-y-1">
          {series.map((s) => {
            const part = column.parts.find((p) => p.series === s);
            return (
              <li key={s.id} className={`flex min-w-0 items-center gap-2 ${part ? "" : "text-muted"}`}>
                <svg viewBox="0 0 10 10" className="size-3 shrink-0">
                  <rect width="10" height="10" rx="2" style={{ fill: fills[s.colour] }} />
                </svg>
                <span className="min-w-0 break-words">{s.name}</span>
                <span className="tabular-nums">{dollars(part?.micros ?? 0)}</span>
              </li>
            );
          })}
        </ul>
      </div>
    </div>
  );
}
