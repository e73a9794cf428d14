import type { Schemas } from "@/api/client";

export type Scope = Schemas["Scope"];

/** The scopes, in the server's order, with what each allows. */
export const scopes: { id: Scope; label: string; allows: string }[] = [
  { id: "read", label: "Read", allows: "See desktops, their screens, usage and events" },
  {
    id: "desktops",
    label: "Desktops",
    allows: "Create, start, stop and terminate desktops, and control their screens",
  },
  { id: "chat", label: "Chat", allows: "Write to agents and read their chats" },
  { id: "keys", label: "Keys", allows: "List, store and remove API keys of model providers" },
  { id: "admin", label: "Admin", allows: "Sessions, activity, budgets and plan of the account" },
];

/** Those that a token for certain desktops may have. */
export const narrow: readonly Scope[] = ["read", "desktops", "chat"];

/** How many days tokens are offered for; 0: they do not expire. */
export const lives = [7, 30, 90, 365, 0] as const;

const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

/** Returns when a token expires, as the list says it. */
export function expiry(t: Pick<Schemas["Token"], "expires_at" | "expired">): string {
  if (t.expires_at === null) return "does not expire";
  return `${t.expired ? "expired on" : "expires on"} ${date.format(new Date(t.expires_at))}`;
}

/** Returns the names of a token's desktops, or how many there are of which this page knows no name; all: it knows every one. */
export function desktopsOf(
  ids: readonly string[],
  known: readonly { id: string; name: string }[],
  all: boolean,
): string {
  const names = ids.flatMap((id) => known.find((d) => d.id === id)?.name ?? []);
  const others = ids.length - names.length;
  if (others > 0 && all) names.push(others === 1 ? "one that no longer exists" : `${others} that no longer exist`);
  else if (others > 0) names.push(`${others} ${names.length > 0 ? "more" : others === 1 ? "desktop" : "desktops"}`);
  return names.join(", ");
}
