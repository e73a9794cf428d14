// The month's figures as tables: by desktop, and by day with the same figures as the chart and the file.
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { dollars, exactly } from "@/money/money";
import type { Usage } from "@/money/queries";
import { duration } from "@/ui/time";
import { costOf } from "./chart";
import { dayName } from "./months";

const head = "px-3 py-2 font-medium text-muted";
const cell = "px-3 py-2 align-top";
const number = "text-right whitespace-nowrap tabular-nums";

/** A table that scrolls sideways where it does not fit. */
function Scrolling({ label, children }: { label: string; children: ReactNode }) {
  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls, so it must be reachable by keyboard
    <div role="region" aria-label={label} tabIndex={0} className="overflow-x-auto rounded-lg border border-line">
      <table className="w-full border-collapse text-left text-sm [&_tbody_tr]:border-t [&_tbody_tr]:border-line">
        {children}
      </table>
    </div>
  );
}

/** An amount to the cent; its exact value on hover. */
const Money = ({ micros }: { micros: number }) => <span title={exactly(micros)}>{dollars(micros)}</span>;

export function ByDesktop({ usage }: { usage: Usage }) {
  const seen = usage.desktops.some((d) => d.seen_seconds > 0);
  const unpriced = usage.desktops.some((d) => !d.priced);
  return (
    <>
      <Scrolling label="Costs by desktop, table">
        <caption className="sr-only">Costs by desktop</caption>
        <thead>
          <tr>
            <th className={head}>Desktop</th>
            <th className={head}>Size</th>
            <th className={`${head} text-right`}>Ran</th>
            <th className={`${head} text-right`}>Cost</th>
          </tr>
        </thead>
        <tbody>
          {usage.desktops.map((d) => (
            <tr key={d.id}>
              <th scope="row" className={`${cell} min-w-32 font-medium break-words`}>
                <Link
                  to="/desktops/$id/about"
                  params={{ id: d.id }}
                  className="text-accent-ink underline [overflow-wrap:anywhere]"
                >
                  {d.name}
                </Link>
                {(d.status === "terminated" || d.status === "failed") && (
                  <span className="font-normal text-muted"> ({d.status})</span>
                )}
              </th>
              <td className={cell}>{d.instance_type}</td>
              <td className={`${cell} ${number}`}>
                {duration(d.run_seconds * 1000)}
                {d.seen_seconds > 0 && <span className="text-muted"> (seen*)</span>}
              </td>
              <td className={`${cell} ${number}`}>
                <Money micros={d.total_micros} />
                {!d.priced && <span className="block text-muted">not priced†</span>}
              </td>
            </tr>
          ))}
        </tbody>
      </Scrolling>
      {seen && (
        <p className="mt-2 text-sm text-muted">
          * The cloud did not say when some runs ended. They are counted until CloudBot last saw them running.
        </p>
      )}
      {unpriced && (
        <p className="mt-2 text-sm text-muted">
          † The price list does not have this size. Its run time is counted, without a price.
        </p>
      )}
    </>
  );
}

export function ByDay({ usage }: { usage: Usage }) {
  const rows = usage.days.flatMap((day) =>
    usage.desktops.flatMap((desktop) => {
      const used = desktop.days.find((d) => d.day === day);
      return used ? [{ day, desktop, used }] : [];
    }),
  );
  return (
    <Scrolling label="Costs by day, table">
      <caption className="sr-only">Costs by day and desktop</caption>
      <thead>
        <tr>
          <th className={head}>Day (UTC)</th>
          <th className={head}>Desktop</th>
          {["Ran", "Compute", "Disk", "Address", "Models, estimated", "Total"].map((name) => (
            <th key={name} className={`${head} text-right`}>
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map(({ day, desktop, used }) => (
          <tr key={`${day} ${desktop.id}`}>
            <th scope="row" className={`${cell} font-normal whitespace-nowrap`}>
              <time dateTime={day}>{dayName(day)}</time>
            </th>
            <td className={`${cell} min-w-28 [overflow-wrap:anywhere]`}>{desktop.name}</td>
            <td className={`${cell} ${number}`}>{duration(used.run_seconds * 1000)}</td>
            {[used.compute_micros, used.disk_micros, used.address_micros, used.model_micros, costOf(used)].map(
              (micros, n) => (
                // oxlint-disable-next-line react/no-array-index-key -- a column
                <td key={n} className={`${cell} ${number}`}>
                  <Money micros={micros} />
                </td>
              ),
            )}
          </tr>
        ))}
      </tbody>
    </Scrolling>
  );
}
