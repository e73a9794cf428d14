import { afterEach, expect, test, vi } from "vitest";
import { renew } from "./live";
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
