// The search parameters of the pages' addresses. Each function below returns the valid parameters; a parameter
// that is not valid is returned as undefined, because the router keeps parameters that are left out.

type Raw = Record<string, unknown>;

export type NextSearch = { next?: string | undefined };

/** nextSearch accepts only pages of the dashboard as the page to open after log-in. */
export const nextSearch = ({ next }: Raw): NextSearch => ({
  next: typeof next === "string" && /^\/(?![/\\])/.test(next) ? next : undefined,
});

export type InstancesSearch = { create?: true | undefined; terminated?: true | undefined };

export const instancesSearch = (s: Raw): InstancesSearch => ({
  create: s.create ? true : undefined,
  terminated: s.terminated ? true : undefined,
});

const views = ["both", "desktop", "chat"] as const;
export type View = (typeof views)[number];

/** chat is the key of the open chat; the main chat if absent. */
export type WorkspaceSearch = { view?: View | undefined; chat?: string | undefined };

export const workspaceSearch = (s: Raw): WorkspaceSearch => ({
  view: views.find((v) => v === s.view),
  chat: typeof s.chat === "string" && s.chat !== "" && s.chat.length <= 512 ? s.chat : undefined,
});

const aboutTabs = ["history", "diagnostics"] as const;
export type AboutTab = (typeof aboutTabs)[number];
export type AboutSearch = { tab?: AboutTab | undefined };

export const aboutSearch = (s: Raw): AboutSearch => ({ tab: aboutTabs.find((t) => t === s.tab) });

/** month is one such as 2026-11; the current one if absent. */
export type UsageSearch = { month?: string | undefined };

export const usageSearch = ({ month }: Raw): UsageSearch => ({
  month: typeof month === "string" && /^\d{4}-(0[1-9]|1[0-2])$/.test(month) ? month : undefined,
});

/** The user returns from Stripe: session_id is that of the payment page, which Stripe fills in. */
export type PlanSearch = { session_id?: string | undefined; from?: "canceled" | "portal" | undefined };

export const planSearch = ({ session_id, from }: Raw): PlanSearch => ({
  session_id: typeof session_id === "string" && session_id !== "" ? session_id : undefined,
  from: from === "canceled" || from === "portal" ? from : undefined,
});
