import type { Instance } from "@/api/client";

export type Quota = { held: number; limit: number };

/** Reports whether another desktop would be refused. */
export const isFull = (q: Quota | undefined): q is Quota => q !== undefined && q.held >= q.limit;

/** Returns the server's sentence for a full quota. */
export function quotaWords({ held, limit }: Quota): string {
  const more = held - limit + 1;
  return `You have ${held} of ${limit} ${limit === 1 ? "desktop" : "desktops"}. Terminate ${more > 1 ? more : "one"} to create another.`;
}

/** Returns the desktops that count against the quota. */
export const holders = (list: Instance[]) => list.filter((i) => i.status !== "terminated" && i.status !== "failed");
