import { useInfiniteQuery } from "@tanstack/react-query";
import { sentence, type HistoryEvent } from "@/api/client";
import type { accountHistoryQuery, historyQuery } from "@/api/queries";
import { Banner, Button, Spinner } from "@/ui";
import { clockTime, duration } from "@/ui/time";

const whoWords = { you: "you", operator: "the operator", system: "the system" };

/** The events of an instance or of the account, newest first, by day. */
export function History({ of }: { of: ReturnType<typeof historyQuery> | typeof accountHistoryQuery }) {
  const history = useInfiniteQuery(of as ReturnType<typeof historyQuery>);
  if (history.isPending) return <Spinner label="Loading…" />;
  if (!history.data)
    return (
      <Banner
        tone="bad"
        action={
          <Button size="small" onClick={() => void history.refetch()}>
            Try again
          </Button>
        }
      >
        {sentence(history.error)}
      </Banner>
    );
  const events = history.data.pages.flatMap((p) => p.events);
  return (
    <>
      <ol className="flex flex-col">
        {days(events).map(([day, list]) => (
          <li key={day}>
            <h2 className="mt-2 mb-2 text-sm font-semibold text-muted">{day}</h2>
            <ol className="border-l-2 border-line pl-4">
              {list.map(({ event: e, since }) => (
                <li
                  key={e.position}
                  className="relative py-2 before:absolute before:top-[1.05rem] before:-left-[1.36rem] before:size-2.5 before:rounded-full before:border-2 before:border-panel before:bg-accent-ink"
                >
                  <p className="break-words">{e.sentence}</p>
                  <p className="text-xs text-muted">
                    <time dateTime={e.time} title={new Date(e.time).toLocaleString()}>
                      {clockTime(e.time)}
                    </time>
                    {since !== undefined && since >= 1_000 && ` · ${duration(since)} later`} · {whoWords[e.who]} ·{" "}
                    <span className="font-mono">{e.type}</span> · #{e.position}
                  </p>
                </li>
              ))}
            </ol>
          </li>
        ))}
      </ol>
      {history.hasNextPage && (
        <Button className="mt-4" busy={history.isFetchingNextPage} onClick={() => void history.fetchNextPage()}>
          Show earlier events
        </Button>
      )}
    </>
  );
}

/** Groups events, newest first, by day, each with the ms since the event before it. */
function days(events: HistoryEvent[]): [string, { event: HistoryEvent; since: number | undefined }[]][] {
  const out: [string, { event: HistoryEvent; since: number | undefined }[]][] = [];
  events.forEach((event, n) => {
    const at = new Date(event.time);
    const day = at.toLocaleDateString(undefined, { weekday: "long", year: "numeric", month: "long", day: "numeric" });
    const before = events[n + 1];
    const entry = { event, since: before && at.getTime() - Date.parse(before.time) };
    const last = out.at(-1);
    if (last?.[0] === day) last[1].push(entry);
    else out.push([day, [entry]]);
  });
  return out;
}
