// What each page shows of the desktops that wait for an answer, or that stop soon.
import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { keepInBackground } from "@/api/events";
import { instancesQuery } from "@/api/queries";
import { Menu, MenuLink } from "@/ui";
import { ChatIcon, ClockIcon } from "@/ui/icons";
import { part, usePart } from "@/ui/later";
import { TimeLeft } from "@/ui/time";
import { WaitsLink } from "./ChatLink";
import { permission, usePermission } from "./permission";
import { setWaiting, useWaiting } from "./store";
import { keyOf, summary, waitingIn, words, type Waiting } from "./waiting";

const notifier = part(async () => (await import("./Notifier")).Notifier);

const style =
  "inline-flex min-h-9 shrink-0 items-center gap-1.5 rounded-md bg-warn-soft px-2 text-sm font-medium text-warn hover:underline forced-colors:border";

/** Follows the account's desktops, and shows which of them wait: in the bar, the title and the app's badge. brief: as a number. */
export function AttentionMark({ brief }: { brief: boolean }) {
  const list = useInfiniteQuery(instancesQuery(false)).data;
  useEffect(() => setWaiting(waitingIn(list?.pages.flatMap((p) => p.instances) ?? [])), [list]);
  useEffect(() => {
    keepInBackground(() => "locks" in navigator && permission() === "on");
    return () => {
      keepInBackground(() => false);
      setWaiting([]);
    };
  }, []);
  const waiting = useWaiting();
  const count = countOf(waiting);
  useEffect(() => badge(count), [count]);
  useEffect(() => () => badge(0), []);
  const [one, ...more] = waiting;
  return (
    <>
      <span role="status" className="sr-only">
        {waiting.map((w) => `${words(w)}.`).join(" ")}
      </span>
      {one && more.length === 0 && (
        <WaitsLink of={one} className={style} title={words(one)}>
          <Needed waiting={waiting} brief={brief} />
          <span className="sr-only">
            {one.stops ? " – " : " on "}
            {one.name}
          </span>
        </WaitsLink>
      )}
      {more.length > 0 && (
        <Menu
          trigger={
            <button type="button" className={style}>
              <Needed waiting={waiting} brief={brief} />
            </button>
          }
        >
          {waiting.map((w) => (
            <MenuLink key={keyOf(w)} render={<WaitsLink of={w} />} icon={w.stops ? <ClockIcon /> : <ChatIcon />}>
              {w.name}
              {w.stops && " stops soon"}
              <TimeLeft until={w.until} before=" · " />
            </MenuLink>
          ))}
        </Menu>
      )}
    </>
  );
}

/** Below the bar: the offer of notifications. Loaded when an agent waits, or when notifications are on. */
export function Notifications({ login }: { login: string }) {
  const waits = useWaiting().length > 0;
  const on = usePermission() === "on";
  const { value: Notifier } = usePart(notifier, on || waits);
  return Notifier ? <Notifier login={login} /> : null;
}

function Needed({ waiting, brief }: { waiting: readonly Waiting[]; brief: boolean }) {
  const Icon = waiting.every((w) => w.stops) ? ClockIcon : ChatIcon;
  return (
    <>
      <Icon className="size-4" />
      <span aria-hidden="true">{countOf(waiting)}</span>
      <span className={brief ? "sr-only" : "max-md:sr-only"}>{summary(waiting)}</span>
    </>
  );
}

const countOf = (waiting: readonly Waiting[]) => waiting.reduce((n, w) => n + w.count, 0);

/** Shows a number on the icon of an installed app; 0 removes it. */
function badge(count: number) {
  if (!("setAppBadge" in navigator)) return;
  void (count > 0 ? navigator.setAppBadge(count) : navigator.clearAppBadge()).catch(() => undefined); // not installed
}
