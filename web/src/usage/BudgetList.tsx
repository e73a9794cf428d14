// The budgets of the account and of each desktop.
import { useInfiniteQuery, useMutation, useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { api, ApiError, call, idempotencyKey, sentence } from "@/api/client";
import { instancesQuery, queryClient } from "@/api/queries";
import { holders } from "@/instances/quota";
import { parseDollars, plain } from "@/money/money";
import { budgetsQuery, type Budgets as All } from "@/money/queries";
import { Banner, Button, Dialog, Spinner, TextField, toast, useWrong } from "@/ui";
import { barsOf, marks, stateWords, usedWords, type Bar, type Limit } from "./budgets";

type Scope = { scope: string; name: string };

export function Budgets() {
  const budgets = useQuery(budgetsQuery);
  const list = useInfiniteQuery(instancesQuery(false));
  const [changing, change] = useState<Scope>();
  const desktops = holders(list.data?.pages.flatMap((p) => p.instances) ?? []);
  const scopes: Scope[] = [
    { scope: "account", name: "All desktops" },
    ...desktops.map((i) => ({ scope: i.id, name: i.name })),
  ];
  return (
    <section id="budgets" className="rounded-xl border border-line bg-panel p-4 sm:p-5" aria-labelledby="budgets-title">
      <h2 id="budgets-title" className="mb-1 text-lg font-semibold">
        Budgets
      </h2>
      <p className="text-sm text-muted">
        You are warned at 50 and 80 %. When a budget is used up, its desktops are stopped, never deleted: their disks
        are kept, and cost a little. Estimated model costs count.
      </p>
      {budgets.data?.installation_reached && (
        <Banner tone="warn" className="mt-3">
          The monthly budget of this server is used up. No desktop can be created until the next month, or until the
          operator raises it.
        </Banner>
      )}
      {budgets.isPending && (
        <p className="mt-3">
          <Spinner label="Loading…" />
        </p>
      )}
      {budgets.error && (
        <Banner
          tone="bad"
          className="mt-3"
          action={
            <Button size="small" onClick={() => void budgets.refetch()}>
              Try again
            </Button>
          }
        >
          {sentence(budgets.error)}
        </Banner>
      )}
      {budgets.data && (
        <ul className="mt-2 divide-y divide-line">
          {scopes.map((s) => (
            <Row key={s.scope} of={s} budgets={budgets.data} onChange={() => change(s)} />
          ))}
        </ul>
      )}
      {budgets.data && changing && (
        <Dialog open onClose={() => change(undefined)} title={`Budget of ${inSentence(changing)}`}>
          <BudgetForm
            of={changing}
            limit={budgets.data.limits.find((l) => l.scope === changing.scope)}
            onClose={() => change(undefined)}
          />
        </Dialog>
      )}
    </section>
  );
}

const inSentence = ({ scope, name }: Scope) => (scope === "account" ? "all desktops" : name);

function Row({ of, budgets, onChange }: { of: Scope; budgets: All; onChange: () => void }) {
  const bars = barsOf(
    budgets.limits.find((l) => l.scope === of.scope),
    budgets.spent.find((s) => s.scope === of.scope),
  );
  const worst = bars.toSorted((a, b) => b.percent - a.percent)[0];
  return (
    <li className="flex flex-wrap items-start gap-x-4 gap-y-2 py-3">
      <div className="min-w-0 flex-1 basis-56">
        <h3 className="font-medium [overflow-wrap:anywhere]">{of.name}</h3>
        {bars.length === 0 && <p className="text-sm text-muted">No limit.</p>}
        {bars.map((bar) => (
          <Meter key={bar.period} of={of} bar={bar} />
        ))}
        {worst && (
          <p
            className={`mt-1.5 text-sm ${worst.percent >= 100 ? "text-bad" : worst.percent >= 50 ? "text-warn" : "text-muted"}`}
          >
            {stateWords(worst, of.scope === "account")}
          </p>
        )}
      </div>
      <Button size="small" onClick={onChange}>
        {bars.length === 0 ? "Set a budget" : "Change"}
        <span className="sr-only">
          {bars.length === 0 ? " of " : " the budget of "}
          {inSentence(of)}
        </span>
      </Button>
    </li>
  );
}

const tone = (percent: number) => (percent >= 100 ? "bg-bad" : percent >= 80 ? "bg-warn" : "bg-accent");

function Meter({ of, bar }: { of: Scope; bar: Bar }) {
  return (
    <div className="mt-1.5">
      <p className="text-sm tabular-nums">{usedWords(bar)}</p>
      <div
        role="meter"
        aria-label={`Budget of ${inSentence(of)}, ${bar.period === "day" ? "today" : "this month"}`}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.min(100, bar.percent)}
        aria-valuetext={usedWords(bar)}
        className="relative mt-1 h-2.5 overflow-hidden rounded-full border border-outline/40 bg-sunken"
      >
        <div
          className={`h-full ${tone(bar.percent)} forced-colors:bg-[Highlight]`}
          style={{ width: `${Math.min(100, bar.percent)}%` }}
        />
        {marks.slice(0, -1).map((m) => (
          <span key={m} className="absolute inset-y-0 w-px bg-ink" style={{ left: `${m}%` }} />
        ))}
      </div>
      <div aria-hidden="true" className="relative h-4 text-xs text-muted">
        {marks.map((m) => (
          <span
            key={m}
            className={`absolute ${m === 100 ? "right-0" : "-translate-x-1/2"}`}
            style={m === 100 ? {} : { left: `${m}%` }}
          >
            {m} %
          </span>
        ))}
      </div>
    </div>
  );
}

type Field = "day" | "month";

/** Returns a limit as the text of its field. */
const text = (micros: number | null | undefined) => (micros == null ? "" : plain(micros));

function BudgetForm({ of, limit, onClose }: { of: Scope; limit: Limit | undefined; onClose: () => void }) {
  const [day, setDay] = useState(text(limit?.day_micros));
  const [month, setMonth] = useState(text(limit?.month_micros));
  const { form, wrong, say } = useWrong<Field>();
  const save = useMutation({
    mutationFn: (body: Limit) => call(api.PUT("/api/budgets", { params: { header: idempotencyKey() }, body })),
    onSuccess: (now) => {
      queryClient.setQueryData(budgetsQuery.queryKey, now);
      toast({ tone: "good", title: "Saved" });
      onClose();
    },
    onError: (error) => {
      if (!(error instanceof ApiError)) return;
      if (error.field === "day_micros") say({ day: error.detail });
      else if (error.field === "month_micros") say({ month: error.detail });
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const [d, m] = [parseDollars(day), parseDollars(month)];
    say({ day: problem(d), month: problem(m) });
    if ("micros" in d && "micros" in m && !problem(d) && !problem(m))
      save.mutate({ scope: of.scope, day_micros: d.micros, month_micros: m.micros });
  };
  return (
    <form ref={form} onSubmit={submit} noValidate className="flex flex-col gap-5">
      <TextField
        label="Dollars a day"
        name="day"
        inputMode="decimal"
        autoComplete="off"
        placeholder="No limit"
        value={day}
        onChange={setDay}
        error={wrong.day}
        hint="Days are those of UTC. Leave it empty for no limit."
      />
      <TextField
        label="Dollars a month"
        name="month"
        inputMode="decimal"
        autoComplete="off"
        placeholder="No limit"
        value={month}
        onChange={setMonth}
        error={wrong.month}
        hint="Leave it empty for no limit."
      />
      <p className="text-sm text-muted">
        {of.scope === "account"
          ? "When a limit is reached, all desktops are stopped, never deleted, and none can be started or created until the day or the month ends."
          : "When a limit is reached, this desktop is stopped, never deleted, and cannot be started until the day or the month ends."}
      </p>
      {save.error && !wrong.day && !wrong.month && <Banner tone="bad">{sentence(save.error)}</Banner>}
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button variant="primary" type="submit" busy={save.isPending}>
          Save
        </Button>
      </div>
    </form>
  );
}

/** Returns what is wrong with a typed limit. */
function problem(read: ReturnType<typeof parseDollars>): string | undefined {
  if ("wrong" in read) return read.wrong;
  return read.micros !== null && read.micros < 10_000 ? "Enter at least $0.01, or nothing for no limit." : undefined;
}
