import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { sentence } from "@/api/client";
import { download } from "@/api/download";
import { dollars, exactly } from "@/money/money";
import { usageQuery, type Usage } from "@/money/queries";
import { PageTitle } from "@/shell";
import { Banner, Button, EmptyState, IconButton, Spinner, toast } from "@/ui";
import { BackIcon, RefreshIcon, SaveIcon, UsageIcon } from "@/ui/icons";
import { clockTime } from "@/ui/time";
import { Budgets } from "./BudgetList";
import { monthAfter, monthAt, monthName, recentMonths } from "./months";
import { UsageChart } from "./UsageChart";
import { ByDay, ByDesktop } from "./UsageTables";

const card = "rounded-xl border border-line bg-panel p-4 sm:p-5";

export function UsagePage() {
  const [now] = useState(Date.now);
  const { month = monthAt(now) } = useSearch({ from: "/signed-in/framed/usage" });
  const usage = useQuery(usageQuery(month));
  const save = useMutation({
    mutationFn: () => download(`/api/usage.csv?month=${month}`, `cloudbot-usage-${month}.csv`),
    onError: (error) => toast({ tone: "bad", title: "Not downloaded", detail: sentence(error) }),
  });
  return (
    <>
      <PageTitle
        action={
          <Button busy={save.isPending} onClick={() => save.mutate()}>
            {!save.isPending && <SaveIcon />}
            Download CSV
          </Button>
        }
      >
        Usage
      </PageTitle>
      <div className="flex flex-col gap-6">
        <MonthChoice month={month} now={now} />
        {usage.data ? (
          <Month
            key={month}
            usage={usage.data}
            refreshes={usage.isFetching}
            onRefresh={() => void usage.refetch()}
            failed={usage.error ? sentence(usage.error) : undefined}
          />
        ) : usage.error ? (
          <Banner
            tone="bad"
            action={
              <Button size="small" onClick={() => void usage.refetch()}>
                Try again
              </Button>
            }
          >
            {sentence(usage.error)}
          </Banner>
        ) : (
          <p className="py-14 text-center text-muted">
            <Spinner label="Loading…" />
          </p>
        )}
        <Budgets />
        {usage.data && <Sources usage={usage.data} />}
      </div>
    </>
  );
}

function MonthChoice({ month, now }: { month: string; now: number }) {
  const navigate = useNavigate({ from: "/usage" });
  const current = monthAt(now);
  const show = (to: string) => void navigate({ search: to === current ? {} : { month: to }, replace: true });
  return (
    <div className="flex items-center gap-1">
      <IconButton label="Earlier month" onClick={() => show(monthAfter(month, -1))}>
        <BackIcon />
      </IconButton>
      <label>
        <span className="sr-only">Month</span>
        <select
          value={month}
          onChange={(e) => show(e.target.value)}
          className="min-h-10 rounded-md border border-outline bg-panel px-3 text-base sm:text-sm"
        >
          {recentMonths(now, month).map((m) => (
            <option key={m} value={m}>
              {monthName(m)}
            </option>
          ))}
        </select>
      </label>
      <IconButton label="Later month" disabled={month >= current} onClick={() => show(monthAfter(month, 1))}>
        <BackIcon className="size-5 rotate-180" />
      </IconButton>
    </div>
  );
}

const kinds = [
  ["compute", "Running"],
  ["disk", "Disks"],
  ["address", "Public addresses"],
  ["model", "Models, estimated"],
] as const;

function Month({
  usage,
  refreshes,
  onRefresh,
  failed,
}: {
  usage: Usage;
  refreshes: boolean;
  onRefresh: () => void;
  failed: string | undefined;
}) {
  const name = monthName(usage.month);
  if (usage.desktops.length === 0)
    return (
      <div className={card}>
        <EmptyState icon={<UsageIcon className="size-10" />} title={`No usage in ${name}`}>
          <p>No desktop ran or kept a disk in this month.</p>
        </EmptyState>
      </div>
    );
  const until = usage.complete_until;
  return (
    <>
      {failed && <Banner tone="warn">These figures are not up to date. {failed}</Banner>}
      <section className={card} aria-labelledby="total">
        <div className="flex flex-wrap items-start justify-between gap-x-4 gap-y-2">
          <h2 id="total" className="text-lg font-semibold">
            Total of {name}
          </h2>
          <p className="flex items-center gap-1 text-sm text-muted">
            Counted until {new Date(until).toLocaleDateString()}, {clockTime(until, true)}
            <IconButton label="Refresh" disabled={refreshes} onClick={onRefresh}>
              <RefreshIcon />
            </IconButton>
          </p>
        </div>
        <p className="text-3xl font-semibold tabular-nums">{dollars(usage.total_micros)}</p>
        <p className="text-sm text-muted tabular-nums">
          Exactly <data value={usage.total_micros}>{exactly(usage.total_micros)}</data>.
          {usage.estimated_micros > 0 &&
            ` Of this, ${dollars(usage.estimated_micros)} is an estimate: what the agents' models cost, as their gateway reports it.`}
        </p>
        <dl className="mt-4 grid grid-cols-[repeat(auto-fill,minmax(8.5rem,1fr))] gap-x-6 gap-y-3 text-sm">
          {kinds.map(([kind, label]) => (
            <div key={kind}>
              <dt className="text-muted">{label}</dt>
              <dd className="text-base tabular-nums" title={exactly(usage.by_kind[kind])}>
                {dollars(usage.by_kind[kind])}
              </dd>
            </div>
          ))}
        </dl>
      </section>
      <section className={card} aria-labelledby="by-day">
        <h2 id="by-day" className="mb-4 text-lg font-semibold">
          By day and desktop
        </h2>
        <UsageChart usage={usage} />
        <details className="mt-4 text-sm">
          <summary className="mb-2 font-medium select-none">Show as a table</summary>
          <ByDay usage={usage} />
        </details>
      </section>
      <section className={card} aria-labelledby="by-desktop">
        <h2 id="by-desktop" className="mb-3 text-lg font-semibold">
          By desktop
        </h2>
        <ByDesktop usage={usage} />
      </section>
    </>
  );
}

/** Where the prices are from, and what they leave out. */
function Sources({ usage }: { usage: Usage }) {
  return (
    <section className={card} aria-labelledby="sources">
      <h2 id="sources" className="mb-2 text-lg font-semibold">
        About these figures
      </h2>
      <ul className="flex list-disc flex-col gap-1.5 pl-5 text-sm [overflow-wrap:anywhere]">
        <li>
          Prices: {usage.source},{" "}
          {new Date(`${usage.date}T00:00:00Z`).toLocaleDateString(undefined, { timeZone: "UTC" })}. They are this
          server's price list, not an invoice of the cloud.
        </li>
        {usage.excluded.map((s) => (
          <li key={s}>{s}</li>
        ))}
        <li>Days and months are those of UTC. A run counts at least 60 seconds.</li>
        <li>This page rounds amounts down to a cent. The file has them exactly.</li>
      </ul>
    </section>
  );
}
