// What each page shows of the desktops that wait for an answer.
import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { keepInBackground } from "@/api/events";
import { instancesQuery } from "@/api/queries";
import { Menu, MenuLink } from "@/ui";
import { ChatIcon } from "@/ui/icons";
import { part, usePart } from "@/ui/later";
import { TimeLeft } from "@/ui/time";
import { ChatLink } from "./ChatLink";
import { permission, usePermission } from "./permission";
import { setWaiting, useWaiting } from "./store";
import { waitingIn, words } from "./waiting";

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
  const count = waiting.reduce((n, w) => n + w.count, 0);
  useEffect(() => badge(count), [count]);
  useEffect(() => () => badge(0), []);
  const [one, ...more] = waiting;
  return (
    <>
      <span role="status" className="sr-only">
        {waiting.map((w) => `${words(w.name)}.`).join(" ")}
      </span>
      {one && more.length === 0 && (
        <ChatLink id={one.id} className={style} title={words(one.name)}>
          <Needed count={count} brief={brief} />
          <span className="sr-only"> on {one.name}</span>
        </ChatLink>
      )}
      {more.length > 0 && (
        <Menu
          trigger={
            <button type="button" className={style}>
              <Needed count={count} brief={brief} />
            </button>
          }
        >
          {waiting.map((w) => (
            <MenuLink key={w.id} render={<ChatLink id={w.id} />} icon={<ChatIcon />}>
              {w.name}
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

function Needed({ count, brief }: { count: number; brief: boolean }) {
  return (
    <>
      <ChatIcon className="size-4" />
      <span aria-hidden="true">{count}</span>
      <span className={brief ? "sr-only" : "max-md:sr-only"}>
        {count === 1 ? "Your answer is needed" : "Your answers are needed"}
      </span>
    </>
  );
}

/** Shows a number on the icon of an installed app; 0 removes it. */
function badge(count: number) {
  if (!("setAppBadge" in navigator)) return;
  void (count > 0 ? navigator.setAppBadge(count) : navigator.clearAppBadge()).catch(() => undefined); // not installed
}
