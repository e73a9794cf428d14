// Whether the account's plan lets it create desktops.
import type { Plan } from "./queries";

export type Gate = {
  /** Why not, as a sentence of the server. */
  why: string;
  /** What the link to the plan's page says. */
  action: string;
};

/** Returns why no desktop can be created; undefined: the plan allows it, or that is not known. */
export function gateOf(plan: Plan | undefined): Gate | undefined {
  if (!plan?.billing || plan.access.level === "full") return undefined;
  const { reason, why } = plan.access;
  return {
    why: why ?? "You need a plan to create and start desktops.",
    action: reason === "payment_failed" ? "See what is due" : reason === "paused" ? "See your plan" : "Choose a plan",
  };
}
