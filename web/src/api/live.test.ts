import { afterEach, expect, test, vi } from "vitest";
import { keysOf, renew } from "./live";
import { queryClient } from "./queries";

afterEach(() => queryClient.clear());

test("an answer under way when its subject changed is requested again", async () => {
  const answers: ((v: string) => void)[] = [];
  const queryFn = () => new Promise<string>((resolve) => answers.push(resolve));
  const first = queryClient.fetchQuery({ queryKey: ["instance", "i"], queryFn });
  renew({ queryKey: ["instance", "i"] });
  answers[0]!("before the change");
  await first;
  await vi.waitFor(() => expect(queryClient.getQueryState(["instance", "i"])?.isInvalidated).toBe(true));
});

test.each([
  ["instance.idle_warned", "instance/i", ["instance i", "budgets", "usage"]],
  ["instance.agent", "instance/i", ["instances", "instance i"]],
  ["account.idle_policy_set", "account/a", ["idle-policy", "instance", "instances"]],
  ["account.suspended", "account/a", ["me"]],
  ["budget.set", "budget/a", ["budgets", "instances"]],
  ["billing.invoice_seen", "billing/a", ["plan", "invoices", "account-history"]],
  ["billing.access_set", "billing/a", ["plan", "types", "instances"]],
  ["instance.requested", "instance/i", ["plan", "instances"]],
  ["quota.allowance_set", "quota/a", ["plan", "types", "instances"]],
  ["quota.slot_taken", "quota/a", ["plan"]],
  ["unknown.event", "unknown/a", []],
])("%s refreshes what it changed", (type, subject, wanted) => {
  const keys = keysOf({ type, subject }).map((k) => k.join(" "));
  expect(keys).toEqual(expect.arrayContaining(wanted));
  if (wanted.length === 0) expect(keys).toEqual([]);
});
