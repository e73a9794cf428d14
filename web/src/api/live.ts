// Keeps the pages up to date: each event of the account refreshes what it changed.
import type { QueryFilters } from "@tanstack/react-query";
import { useEffect, useSyncExternalStore } from "react";
import { forgetHeard, heardOf } from "./client";
import { awake, shareEvents, type EventsState, type LogEvent } from "./events";
import { queryClient } from "./queries";

let state: EventsState = "connecting";
const listeners = new Set<() => void>();

/** The state of the stream of events. */
export const useLiveState = () =>
  useSyncExternalStore(
    (l) => (listeners.add(l), () => listeners.delete(l)),
    () => state,
  );

/** Follows the account's events while the component is mounted. */
export function useLive(login: string) {
  useEffect(() => {
    const control = new AbortController();
    void shareEvents(
      login,
      {
        onEvent: changed,
        onReset: () => {
          forgetHeard();
          renew({});
        },
        onOpen: (resumed) =>
          renew({
            predicate: (q) =>
              q.queryKey[0] !== "report" && (!resumed || transient(q.queryKey[0]) || q.state.status === "error"),
          }),
        onState: (now) => {
          state = now;
          for (const l of listeners) l();
        },
      },
      control.signal,
    );
    return () => control.abort();
  }, [login]);
}

/** Some of what instances show is not in the log, and its events are not repeated. */
const transient = (of: unknown) => of === "instances" || of === "instance";

const dirty = new Map<string, readonly string[]>();
let timer: ReturnType<typeof setTimeout> | undefined;

/** Refetches what is out of date, including queries under way: their answer may be too early. */
export function renew(which: QueryFilters) {
  for (const q of queryClient.getQueryCache().findAll({ ...which, fetchStatus: "fetching" })) {
    if (q.state.data === undefined)
      void q.promise?.then(
        () => queryClient.invalidateQueries({ queryKey: q.queryKey, exact: true }),
        () => undefined,
      );
  }
  void queryClient.invalidateQueries(which);
}

function changed(event: LogEvent) {
  heardOf(Number(event.sequence));
  // A hidden page that may notify the user needs to know at once what waits.
  if (/^instance\.(agent$|idle_)/.test(event.type) && document.visibilityState !== "visible" && awake())
    renew({ queryKey: ["instances"] });
  for (const key of keysOf(event)) dirty.set(key.join(" "), key);
  // Events come in bursts; one refresh serves the whole burst.
  timer ??= setTimeout(flush, 30);
}

function flush() {
  // A hidden page refetches once it is visible: there may be many such pages.
  if (document.visibilityState !== "visible")
    return document.addEventListener("visibilitychange", flush, { once: true });
  timer = undefined;
  for (const key of dirty.values()) renew({ queryKey: key });
  dirty.clear();
}

/** Returns the queries that an event makes out of date. */
export function keysOf(event: Pick<LogEvent, "type" | "subject">): string[][] {
  const id = event.subject.split("/").at(-1) ?? "";
  if (event.type === "instance.agent") return [["instances"], ["instance", id]]; // not in the history
  switch (event.type.split(".")[0]) {
    case "instance": {
      const keys = [["instances"], ["instance", id], ["history", id], ["usage"], ["budgets"]];
      // The plan counts desktops, and has nothing to do with the steps of their boots.
      return /\.(requested|terminated|failed)$/.test(event.type) ? [...keys, ["plan"]] : keys;
    }
    case "session":
      return [["sessions"], ["account-history"]];
    case "token":
      return [["tokens"], ["account-history"]];
    case "apikey":
      return [["keys"], ["account-history"]];
    case "account":
      return event.type === "account.idle_policy_set"
        ? [["idle-policy"], ["instances"], ["instance"], ["account-history"]]
        : [["me"], ["account-history"]];
    case "budget":
      return [["budgets"], ["instances"], ["instance"], ["account-history"]];
    case "billing": {
      const keys = [["plan"], ["invoices"], ["account-history"]];
      return event.type === "billing.access_set" ? [...keys, ["types"], ["instances"]] : keys;
    }
    case "quota":
      return event.type === "quota.allowance_set" ? [["plan"], ["types"], ["instances"]] : [["plan"]];
    case "audit":
      return event.subject.startsWith("instance/") ? [["history", id]] : [["account-history"]];
    default:
      return [];
  }
}
