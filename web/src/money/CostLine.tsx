import type { Instance } from "@/api/client";
import { useNow } from "@/ui/time";
import { costAt, monthWords, runWords, seenAt } from "./cost";

/** Returns what a desktop costs in words, live: "Running 3 h 20 min, $0.28", "$4.12 this month". */
export function useCostWords(i: Instance): string[] {
  const now = useNow();
  if (!i.cost) return []; // an older server
  const instance = { ...i, cost: costAt({ status: i.status, cost: i.cost }, seenAt(i.cost), now) };
  return [runWords(instance), monthWords(instance)].filter((w) => w !== undefined);
}

/** The run under way and the month, as one line; nothing if there is nothing to say. */
export function CostLine({ instance, className = "" }: { instance: Instance; className?: string }) {
  const words = useCostWords(instance);
  return words.length > 0 ? <p className={`tabular-nums ${className}`}>{words.join(" · ")}</p> : null;
}
