// When a message was written. Its machine may name any number as a time.
const last = 8.64e15; // in ms, which a Date can hold

export const dateOf = (at: number | undefined): Date | undefined =>
  at === undefined || !(Math.abs(at) <= last) ? undefined : new Date(at);

const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });

/** The time of day; the full date on hover. */
export function Clock({ at }: { at: number | undefined }) {
  const date = dateOf(at);
  return (
    date && (
      <time dateTime={date.toISOString()} title={full.format(date)} className="text-xs text-muted">
        {clock.format(date)}
      </time>
    )
  );
}

/** The day of a message, if the message before it is of another one. */
export function Day({ at, before }: { at: number | undefined; before: number | undefined }) {
  const date = dateOf(at);
  const earlier = dateOf(before);
  if (!date || (earlier && earlier.toDateString() === date.toDateString())) return null;
  return <p className="self-center text-xs font-medium text-muted">{day.format(date)}</p>;
}
