export type Probe = { provider: string; result: string; status?: number };

/** Returns the providers' verdicts on their keys from the machine's report; undefined: it is no such report. */
export function probesOf(text: string): Probe[] | undefined {
  try {
    const { providers } = JSON.parse(text) as { providers?: unknown };
    if (!Array.isArray(providers)) return undefined;
    return (providers as Probe[]).filter(
      (p) => typeof p?.provider === "string" && typeof p.result === "string" && p.result !== "no key",
    );
  } catch {
    return undefined;
  }
}

const results = new Map(
  Object.entries({
    accepted: "accepts the key",
    "no plug-in": "accepts the key, but this machine's agent has no plug-in for it; use another provider",
    unauthorised: "rejects the key; replace it under API keys",
    unreachable: "cannot be reached from the machine",
    unexpected: "gave an unexpected answer",
  }),
);

export const verdict = (p: Probe) =>
  `${results.get(p.result) ?? p.result}${typeof p.status === "number" ? ` (${p.status})` : ""}`;
