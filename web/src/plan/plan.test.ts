import { describe, expect, test } from "vitest";
import { planSearch } from "@/search";
import { amountWords, everyWords, priceWords } from "./amount";
import { gateOf } from "./gate";
import type { Config, Invoice, Plan } from "./queries";
import { dayWords, timeWords } from "./times";
import {
  dueWords,
  headline,
  invoiceWords,
  limitWords,
  noticeOf,
  offersOf,
  outcomeOf,
  sizeWords,
  subscribed,
  termWords,
} from "./view";

const now = Date.parse("2026-11-28T12:00:00Z");
const soon = "2026-12-05T12:00:00Z";
const past = "2026-11-27T12:00:00Z";
const end = "2026-12-28T09:00:00Z";

const config: Config = {
  configured: true,
  publishable_key: "pk_test_0123456789",
  dev_mode: false,
  metered: false,
  plans: {
    starter: {
      name: "Starter",
      instance_type: "t3.medium",
      max_workers: 2,
      available: true,
      price: { amount: 1_900, currency: "usd", interval: "month" },
    },
    pro: { name: "Pro", instance_type: "t3.large", max_workers: 5, available: true, price: null },
    enterprise: { name: "Enterprise", instance_type: "t3.xlarge", max_workers: 10, available: false, price: null },
  },
};

const sub: NonNullable<Plan["subscription"]> = {
  id: "sub_1",
  plan_type: "pro",
  status: "active",
  instance_type: "t3.large",
  max_workers: 5,
  current_period_end: end,
  cancel_at_period_end: false,
  cancel_at: null,
  granted: false,
};

const none: Plan = {
  billing: true,
  access: {
    level: "none",
    plan_type: null,
    desktops: 0,
    instance_types: [],
    reason: "no_plan",
    why: "You need a plan to create and start desktops. Choose one on the page Plan.",
    stop_at: null,
  },
  subscription: null,
  checkout: null,
  due: null,
  portal: false,
  several: false,
  used_desktops: 0,
};

const pro: Plan = {
  ...none,
  access: {
    level: "full",
    plan_type: "pro",
    desktops: 5,
    instance_types: ["t3.medium", "t3.large"],
    reason: null,
    why: null,
    stop_at: null,
  },
  subscription: sub,
  portal: true,
  used_desktops: 1,
};

const due: Plan = {
  ...pro,
  access: {
    ...pro.access,
    level: "due",
    reason: "payment_failed",
    why: "A payment for your plan failed.",
    stop_at: soon,
  },
  subscription: { ...sub, status: "past_due" },
  due: { amount: 4_900, currency: "usd", attempts: 2, next_attempt_at: soon },
};

const granted: Plan = {
  ...pro,
  subscription: { ...sub, id: "granted", granted: true, current_period_end: null },
  portal: false,
};

const ended: Plan = {
  ...pro,
  access: { ...none.access, plan_type: "pro", reason: "plan_ended", why: "Your plan has ended.", stop_at: soon },
  subscription: { ...sub, status: "canceled" },
};

const with_ = (plan: Plan, access: Partial<Plan["access"]>): Plan => ({
  ...plan,
  access: { ...plan.access, ...access },
});

describe("amounts", () => {
  test.each([
    [2_900, "usd", "$29.00"],
    [5, "usd", "$0.05"],
    [0, "usd", "$0.00"],
    [-2_900, "usd", "-$29.00"],
    [123_456_789, "eur", "€1,234,567.89"],
    [500, "jpy", "¥500"],
    [0, "jpy", "¥0"],
    [500, "mga", "MGA 500"], // ISO has cents for it, Stripe has none
    [500, "isk", "ISK 5"], // and the other way round
    [500, "ugx", "UGX 5"],
    [5_120, "kwd", "KWD 5.120"],
    [9_007_199_254_740_991, "usd", "$90,071,992,547,409.91"], // exact to the last digit
    [500, "not a code", "5.00 NOT A CODE"],
  ])("%d of %s are %s", (units, currency, wanted) => {
    expect(amountWords(units, currency, "en-US").replaceAll("\u00a0", " ")).toBe(wanted);
  });

  test("the user's language decides how they look", () => {
    expect(amountWords(123_450, "eur", "de-DE").replaceAll("\u00a0", " ")).toBe("1.234,50 €");
  });

  test("a price says how often it is paid", () => {
    expect(priceWords({ amount: 2_900, currency: "usd", interval: "month" }, "en-US")).toBe("$29.00 a month");
    expect(everyWords("3 month")).toBe("every 3 months");
  });
});

describe("the gate", () => {
  test("is open without billing, with a full plan, and while nothing is known", () => {
    expect(gateOf(undefined)).toBeUndefined();
    expect(gateOf({ ...none, billing: false })).toBeUndefined();
    expect(gateOf(pro)).toBeUndefined();
    expect(gateOf(granted)).toBeUndefined();
  });

  test("says the server's sentence, and where to go", () => {
    expect(gateOf(none)).toEqual({ why: none.access.why, action: "Choose a plan" });
    expect(gateOf(ended)).toEqual({ why: "Your plan has ended.", action: "Choose a plan" });
    expect(gateOf(due)).toEqual({ why: "A payment for your plan failed.", action: "See what is due" });
    expect(gateOf(with_(none, { reason: "paused" }))?.action).toBe("See your plan");
  });
});

describe("the account's plan", () => {
  test.each([
    ["none", none, "No plan", undefined],
    ["a full one", pro, "Pro", "Active"],
    ["a canceled one", { ...pro, subscription: { ...sub, cancel_at_period_end: true } }, "Pro", "Canceled"],
    ["a granted one", granted, "Pro", "Given by the operator"],
    ["one with a payment due", due, "Pro", "Payment due"],
    ["one that was not paid", with_(ended, { reason: "payment_failed" }), "Pro", "Not paid"],
    ["a paused one", with_(ended, { reason: "paused" }), "Pro", "Not active"],
    ["one that has ended", ended, "Pro", "Ended"],
  ])("%s", (_, plan, title, badge) => {
    const said = headline(plan, config);
    expect([said.title, said.badge?.text]).toEqual([title, badge]);
  });

  test("how long it lasts", () => {
    expect(termWords(none)).toBe("You need a plan to create and start desktops.");
    expect(termWords(ended)).toBeUndefined();
    expect(termWords(due)).toBeUndefined(); // it is not paid until then
    expect(termWords(pro)).toBe(`Paid until ${dayWords(end)}. It renews then by itself.`);
    expect(termWords({ ...pro, subscription: { ...sub, cancel_at_period_end: true, cancel_at: soon } })).toBe(
      `Your plan ends on ${dayWords(soon)}. Until then, nothing changes. An hour later, running desktops stop. Nothing is deleted.`,
    );
    expect(termWords(granted)).toMatch(/gave you this plan\. Nothing is charged/);
    expect(termWords({ ...granted, subscription: { ...granted.subscription!, current_period_end: end } })).toContain(
      `until ${dayWords(end)}`,
    );
  });

  test("what is due", () => {
    expect(dueWords(pro, now)).toBeUndefined();
    expect(dueWords(due, now)).toBe(
      `$49.00 is due. Stripe could not charge your card (tried 2 times). It tries again at ${timeWords(soon)}.`,
    );
    expect(dueWords({ ...due, due: { ...due.due!, attempts: 1, next_attempt_at: null } }, now)).toBe(
      "$49.00 is due. Stripe could not charge your card. It does not try again by itself.",
    );
    expect(dueWords({ ...due, due: { ...due.due!, attempts: 0, next_attempt_at: null } }, now)).toBe("$49.00 is due.");
    expect(dueWords({ ...due, due: { ...due.due!, next_attempt_at: past } }, now)).not.toContain("tries again at");
  });

  test("sizes that the server does not have are left out", () => {
    expect(sizeWords(["t3.medium", "t3.large"], ["t3.large"])).toBe("t3.large");
    expect(sizeWords(["a", "b", "c"], ["a", "b", "c"])).toBe("a, b and c");
    expect(sizeWords(["t3.medium"], ["local"])).toBeUndefined();
    expect(sizeWords(["t3.medium"], undefined)).toBeUndefined();
    expect(limitWords(pro.access, config)).toBe("The plan Pro is for 5 desktops of the sizes t3.medium and t3.large.");
    expect(limitWords({ ...pro.access, desktops: 1, instance_types: ["t3.medium"] })).toBe(
      "The plan Pro is for 1 desktop of the size t3.medium.",
    );
  });
});

describe("the banner over all pages", () => {
  const held = [{ instance_type: "t3.large", status: "running" as const }];
  const stopped = [{ instance_type: "t3.large", status: "stopped" as const }];

  test("says nothing where all is well, without billing, and to an account without desktops", () => {
    expect(noticeOf(pro, held, now)).toBeUndefined();
    expect(noticeOf({ ...due, billing: false }, held, now)).toBeUndefined();
    expect(noticeOf(none, [], now)).toBeUndefined();
  });

  test("a payment is due", () => {
    expect(noticeOf(due, held, now)).toEqual({
      tone: "warn",
      title: `A payment is due. Your desktops stop at ${timeWords(soon)}.`,
      text: "A payment for your plan failed.",
      action: "See what is due",
    });
  });

  test("a plan has ended: before and after its desktops stop", () => {
    expect(noticeOf(ended, held, now)).toMatchObject({
      tone: "warn",
      title: `Your desktops stop at ${timeWords(soon)}.`,
      text: "Your plan has ended.",
    });
    const over = with_(ended, { stop_at: past });
    expect(noticeOf(over, held, now)?.title).toBe("Your desktops stop now.");
    expect(noticeOf(over, stopped, now)).toMatchObject({ tone: "info", title: "Your desktops are stopped." });
  });

  test("a smaller plan: only if it does not allow what the account has", () => {
    const smaller = with_(pro, { plan_type: "starter", desktops: 2, instance_types: ["t3.medium"], stop_at: soon });
    expect(noticeOf(smaller, [{ instance_type: "t3.medium", status: "running" }], now)).toBeUndefined();
    expect(noticeOf(smaller, held, now)?.text).toBe(
      "The plan Starter is for 2 desktops of the size t3.medium. What it does not include stops then. Nothing is deleted.",
    );
    const three = Array.from({ length: 3 }, () => ({ instance_type: "t3.medium", status: "running" as const }));
    expect(noticeOf(smaller, three, now)?.title).toBe(`Some of your desktops stop at ${timeWords(soon)}.`);
    expect(noticeOf(with_(smaller, { stop_at: past }), three, now)).toBeUndefined();
  });
});

const labels = (plan: Plan) => offersOf(plan, config, ["t3.medium", "t3.large"]).map((o) => [o.does, o.label]);

describe("the plans to choose from", () => {
  test("an account without a subscription buys", () => {
    const bought = [
      ["buy", "Choose Starter"],
      ["buy", "Choose Pro"],
      ["none", "Not offered at present"],
    ];
    expect(labels(none)).toEqual(bought);
    expect(labels(ended)).toEqual(bought); // a subscription that has ended does not come back
    expect(labels({ ...none, checkout: { plan_type: "pro", expires_at: soon } })[1]).toEqual([
      "continue",
      "Continue to payment",
    ]);
  });

  test("a subscription is changed in the portal, also one that is not paid", () => {
    const changed = [
      ["change", "Change to Starter"],
      ["none", "Your subscription at Stripe"],
      ["none", "Not offered at present"],
    ];
    for (const plan of [pro, due, with_(due, { level: "none" })]) expect(labels(plan)).toEqual(changed);
    expect(subscribed(due)).toBe(true);
    expect(subscribed(ended)).toBe(false);
  });

  test("a subscription that also counts time is not changed: Stripe's portal cannot", () => {
    expect(offersOf(pro, { ...config, metered: true }, undefined).map((o) => [o.does, o.label])).toEqual([
      ["none", "When your plan has ended"],
      ["none", "Your subscription at Stripe"],
      ["none", "Not offered at present"],
    ]);
  });

  test("an account with a granted plan may buy another one", () => {
    expect(labels(granted)).toEqual([
      ["buy", "Choose Starter"],
      ["none", "Your plan"],
      ["none", "Not offered at present"],
    ]);
  });

  test("what they cost and allow", () => {
    const [starter, second] = offersOf(pro, config, ["t3.medium", "t3.large"]);
    expect(starter).toMatchObject({
      price: { amount: "$19.00", every: "a month" },
      lines: ["Up to 2 desktops at a time", "Sizes: t3.medium"],
      current: false,
    });
    expect(second).toMatchObject({ price: undefined, current: true });
    expect(second!.lines).toContain("Sizes: t3.medium and t3.large");
    expect(offersOf(none, config, ["local"])[0]!.lines).toEqual(["Up to 2 desktops at a time"]);
  });
});

describe("invoices", () => {
  const invoice: Invoice = {
    id: "in_1",
    number: "CB-0001",
    status: "paid",
    amount_due: 1_900,
    amount_paid: 1_900,
    currency: "usd",
    period_start: past,
    period_end: end,
    created_at: past,
    next_attempt_at: null,
    url: "https://invoice.example.com/1",
    pdf_url: null,
  };

  test("a paid one is viewed, an open one is paid", () => {
    expect(invoiceWords(invoice, now)).toMatchObject({ text: "Paid", amount: "$19.00", link: "View", next: undefined });
    expect(invoiceWords({ ...invoice, status: "open", amount_paid: 0, next_attempt_at: soon }, now)).toMatchObject({
      text: "Not paid yet",
      amount: "$19.00",
      link: "Pay",
      next: `Stripe tries again at ${timeWords(soon)}.`,
    });
    expect(invoiceWords({ ...invoice, status: "new at Stripe" }, now).text).toBe("new at Stripe");
  });
});

describe("the return from Stripe", () => {
  test("is read from the address", () => {
    expect(planSearch({ session_id: "cs_test_1" })).toEqual({ session_id: "cs_test_1", from: undefined });
    expect(planSearch({ session_id: 1, from: "elsewhere" })).toEqual({ session_id: undefined, from: undefined });
    expect(planSearch({ from: "canceled" }).from).toBe("canceled");
  });

  test("only a plan that the server has seen counts as paid", () => {
    expect(outcomeOf("paid", pro, config)).toMatchObject({
      tone: "good",
      title: "You have the plan Pro.",
      create: true,
    });
    expect(outcomeOf("paid", { ...pro, subscription: { ...sub, cancel_at_period_end: true } })).toBeUndefined();
    expect(outcomeOf("paid", none, config)).toMatchObject({ tone: "warn", create: false, again: true });
    expect(outcomeOf("paid", due, config)).toMatchObject({ tone: "warn", create: false });
    expect(outcomeOf("paid", granted, config)).toMatchObject({ tone: "warn" }); // it was not paid
  });

  test("without a payment", () => {
    expect(outcomeOf("canceled", none)?.text).toBe("Nothing was charged.");
    expect(outcomeOf("canceled", { ...none, checkout: { plan_type: "pro", expires_at: soon } })?.text).toBe(
      `Nothing was charged. The page stays open until ${timeWords(soon)}.`,
    );
    expect(outcomeOf("canceled", pro)).toBeUndefined();
    expect(outcomeOf("portal", due)).toBeUndefined();
  });
});
