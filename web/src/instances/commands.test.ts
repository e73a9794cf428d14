import { expect, test, vi } from "vitest";

vi.mock("@/ui", () => ({}));
vi.stubGlobal("localStorage", { getItem: () => null });
const { queryClient } = await import("@/api/queries");
const { created } = await import("./commands");

test("a new instance is refetched, because the events of its boot may have arrived before the response", () => {
  created({ id: "i1", status: "launching" } as Parameters<typeof created>[0]);
  const state = queryClient.getQueryState(["instance", "i1"]);
  expect([state?.data, state?.isInvalidated]).toEqual([{ id: "i1", status: "launching" }, true]);
});
