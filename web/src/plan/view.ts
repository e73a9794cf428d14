// What the page Plan shows, in words: the account's plan, what is due, what stops when, and the plans to choose from.
import type { Instance } from "@/api/client";
import type { Tone } from "@/ui/notice";
import { amountWords, everyWords } from "./amount";
import type { Config, Invoice, Plan } from "./queries";
import { ahead, dayWords, timeWords } from "./times";

export const planTypes = ["starter", "pro", "enterprise"] as const;
export type PlanType = (typeof planTypes)[number];

type Access = Plan["access"];

/** Returns a plan's name as the server has it; while that is loading, from its type. */
export const nameOf = (plan: PlanType, config: Config | undefined): string =>
  config?.plans[plan].name ?? plan[0]!.toUpperCase() + plan.slice(1);

/** Reports whether the account has a subscription that has not ended, so plans are changed in the portal. */
export const subscribed = ({ subscription: s }: Plan): boolean =>
  s !== null && !s.granted && s.status !== "canceled" && s.status !== "incomplete_expired";

export type Headline = { title: string; badge?: { tone: Tone; text: string } };

/** Returns the account's plan and its state. */
export function headline(plan: Plan, config?: Config): Headline {
  const { access, subscription } = plan;
  const title = access.plan_type ? nameOf(access.plan_type, config) : "No plan";
  const badge = (tone: Tone, text: string): Headline => ({ title, badge: { tone, text } });
  if (access.level === "due") return badge("warn", "Payment due");
  if (access.level === "full") {
    if (subscription?.granted) return badge("good", "Given by the operator");
    return subscription?.cancel_at_period_end ? badge("warn", "Canceled") : badge("good", "Active");
  }
  if (access.reason === "payment_failed") return badge("bad", "Not paid");
  if (access.reason === "paused") return badge("warn", "Not active");
  return access.plan_type ? badge("info", "Ended") : { title };
}

/** Returns until when the plan lasts, as a sentence; undefined: there is nothing to say. */
export function termWords({ access, subscription: s }: Plan): string | undefined {
  if (access.reason === "no_plan") return "You need a plan to create and start desktops.";
  if (!s || access.level === "none") return undefined;
  if (s.granted)
    return s.current_period_end
      ? `The operator of this server gave you this plan until ${dayWords(s.current_period_end)}. Nothing is charged for it.`
      : "The operator of this server gave you this plan. Nothing is charged for it.";
  if (s.cancel_at_period_end) {
    const end = s.cancel_at ?? s.current_period_end;
    return `Your plan ends ${end ? `on ${dayWords(end)}` : "with its period"}. Until then, nothing changes. An hour later, running desktops stop. Nothing is deleted.`;
  }
  if (access.level === "due" || !s.current_period_end) return undefined;
  return `Paid until ${dayWords(s.current_period_end)}. It renews then by itself.`;
}

/** Returns the sizes as a list in words; those that the server does not have are left out. known: undefined while loading. */
export function sizeWords(types: readonly string[], known: readonly string[] | undefined): string | undefined {
  const here = types.filter((t) => known?.includes(t) ?? false);
  return here.length > 1 ? `${here.slice(0, -1).join(", ")} and ${here.at(-1)}` : here[0];
}

const desktops = (n: number) => `${n} ${n === 1 ? "desktop" : "desktops"}`;

/** Returns what is due, in sentences; undefined: nothing. */
export function dueWords({ due }: Plan, now: number): string | undefined {
  if (!due) return undefined;
  const tried =
    due.attempts > 0
      ? ` Stripe could not charge your card${due.attempts > 1 ? ` (tried ${due.attempts} times)` : ""}.`
      : "";
  const next = ahead(due.next_attempt_at, now)
    ? ` It tries again at ${timeWords(due.next_attempt_at)}.`
    : due.attempts > 0
      ? " It does not try again by itself."
      : "";
  return `${amountWords(due.amount, due.currency)} is due.${tried}${next}`;
}

/** Returns the desktops that a plan does not allow, though the account has it in full. */
function beyond({ desktops: most, instance_types: types }: Access, held: readonly Pick<Instance, "instance_type">[]) {
  return held.length > most || held.some((i) => !types.includes(i.instance_type));
}

export type Notice = {
  tone: Tone;
  title: string;
  text: string;
  action: string;
};

/** Returns the banner over all pages: that desktops stop, or cannot be started; undefined: none. */
export function noticeOf(
  plan: Plan,
  held: readonly Pick<Instance, "instance_type" | "status">[],
  now: number,
  config?: Config,
): Notice | undefined {
  const { billing, access } = plan;
  if (!billing) return undefined;
  const stop = ahead(access.stop_at, now) ? `at ${timeWords(access.stop_at)}` : undefined;
  if (access.level === "due")
    return {
      tone: "warn",
      title: stop ? `A payment is due. Your desktops stop ${stop}.` : "A payment is due.",
      text: access.why ?? "",
      action: "See what is due",
    };
  if (access.level === "full") {
    if (!stop || !beyond(access, held)) return undefined;
    return {
      tone: "warn",
      title: `Some of your desktops stop ${stop}.`,
      text: `${limitWords(access, config)} What it does not include stops then. Nothing is deleted.`,
      action: "See plans",
    };
  }
  if (plan.used_desktops === 0) return undefined; // the page of desktops says it where one is created
  return {
    tone: stop ? "warn" : "info",
    title: stop
      ? `Your desktops stop ${stop}.`
      : held.some((i) => i.status === "running")
        ? "Your desktops stop now."
        : "Your desktops are stopped.",
    text: access.why ?? "",
    action: access.reason === "payment_failed" ? "See what is due" : "See plans",
  };
}

/** Returns what the plan is for: "The plan Pro is for 5 desktops of the sizes t3.medium and t3.large." */
export function limitWords({ plan_type, desktops: most, instance_types }: Access, config?: Config): string {
  const sizes = sizeWords(instance_types, instance_types);
  const name = plan_type ? `The plan ${nameOf(plan_type, config)}` : "Your plan";
  return `${name} is for ${desktops(most)}${sizes ? ` of the ${instance_types.length > 1 ? "sizes" : "size"} ${sizes}` : ""}.`;
}

export type Offer = {
  plan: PlanType;
  name: string;
  /** The amount and how often it is paid; undefined: not known at present, Stripe's page says it. */
  price: { amount: string; every: string } | undefined;
  current: boolean;
  /** What it allows, in lines. */
  lines: string[];
  /** What its button does: opens a payment page, the open one again, or the portal. none: there is no button. */
  does: "buy" | "continue" | "change" | "none";
  label: string;
};

/** Returns the plans to choose from, from the smallest. types: the sizes that the server has. */
export function offersOf(plan: Plan, config: Config, types: readonly string[] | undefined): Offer[] {
  return planTypes.map((type, rank): Offer => {
    const { name, available, price, max_workers } = config.plans[type];
    const sizes = sizeWords(
      planTypes.slice(0, rank + 1).map((t) => config.plans[t].instance_type),
      types,
    );
    const current = plan.access.level !== "none" && plan.access.plan_type === type;
    const offer = (does: Offer["does"], label: string): Offer => ({
      plan: type,
      name,
      price: price
        ? { amount: amountWords(price.amount, price.currency), every: everyWords(price.interval) }
        : undefined,
      current,
      lines: [`Up to ${desktops(max_workers)} at a time`, ...(sizes ? [`Sizes: ${sizes}`] : [])],
      does,
      label,
    });
    if (subscribed(plan)) {
      if (plan.subscription?.plan_type === type) return offer("none", "Your subscription at Stripe");
      if (config.metered) return offer("none", available ? "When your plan has ended" : unavailable);
      return plan.portal && available ? offer("change", `Change to ${name}`) : offer("none", unavailable);
    }
    if (current) return offer("none", "Your plan");
    if (!available) return offer("none", unavailable);
    return plan.checkout?.plan_type === type
      ? offer("continue", "Continue to payment")
      : offer("buy", `Choose ${name}`);
  });
}

const unavailable = "Not offered at present";

/** Returns an invoice's state, and what its link does. */
export function invoiceWords({ status, amount_due, amount_paid, currency, next_attempt_at }: Invoice, now: number) {
  const state = invoiceStates.get(status) ?? { tone: "info" as const, text: status };
  return {
    ...state,
    amount: amountWords(status === "paid" ? amount_paid : amount_due, currency),
    next:
      status === "open" && ahead(next_attempt_at, now)
        ? `Stripe tries again at ${timeWords(next_attempt_at)}.`
        : undefined,
    link: status === "open" ? "Pay" : "View",
  };
}

const invoiceStates = new Map<string, { tone: Tone; text: string }>([
  ["draft", { tone: "info", text: "Draft" }],
  ["open", { tone: "warn", text: "Not paid yet" }],
  ["paid", { tone: "good", text: "Paid" }],
  ["uncollectible", { tone: "bad", text: "Not paid" }],
  ["void", { tone: "info", text: "Void, nothing to pay" }],
]);

/** How the user came back from Stripe. */
export type Return = "paid" | "canceled" | "portal";

export type Outcome = { tone: Tone; title: string; text: string; create: boolean; again: boolean };

/** Returns what to say after a return from Stripe, once the server has looked there. */
export function outcomeOf(from: Return, plan: Plan, config?: Config): Outcome | undefined {
  const { access, checkout } = plan;
  if (from === "paid" && access.level === "full" && subscribed(plan)) {
    if (plan.subscription?.cancel_at_period_end) return undefined; // canceled since
    return {
      tone: "good",
      title: access.plan_type ? `You have the plan ${nameOf(access.plan_type, config)}.` : "You have a plan.",
      text: "Stripe confirmed your payment. You can create desktops now.",
      create: true,
      again: false,
    };
  }
  if (from === "portal") return undefined; // the page shows what has changed
  if (from === "canceled" && access.level !== "full")
    return {
      tone: "info",
      title: "You left the payment page.",
      text: checkout
        ? `Nothing was charged. The page stays open until ${timeWords(checkout.expires_at)}.`
        : "Nothing was charged.",
      create: false,
      again: false,
    };
  if (from === "canceled") return undefined;
  return {
    tone: "warn",
    title: "Stripe has not confirmed the payment yet.",
    text: "Some ways to pay take a while. This page changes by itself when Stripe confirms it. You do not need to pay again.",
    create: false,
    again: true,
  };
}
