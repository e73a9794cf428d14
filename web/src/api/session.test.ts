import { afterEach, beforeEach, expect, test, vi } from "vitest";

const answer = (name: string) => ({
  access_token: `access ${name}`,
  refresh_token: `refresh ${name}`,
  expires_in: 3600,
});

let store: Map<string, string>;
let refreshes: { done: (answer: Response) => void; fail: (error: unknown) => void }[];

beforeEach(() => {
  store = new Map();
  refreshes = [];
  vi.stubGlobal("localStorage", {
    getItem: (k: string) => store.get(k) ?? null,
    setItem: (k: string, v: string) => store.set(k, v),
    removeItem: (k: string) => store.delete(k),
  });
  vi.stubGlobal("navigator", {});
  vi.stubGlobal(
    "fetch",
    (_: string, init: RequestInit) =>
      new Promise((done, fail) => {
        refreshes.push({ done, fail });
        init.signal?.addEventListener("abort", () => fail(init.signal?.reason));
      }),
  );
});
afterEach(() => vi.unstubAllGlobals());

const asked = (times: number) => vi.waitFor(() => expect(refreshes).toHaveLength(times));

/** A separate page on shared storage. */
async function page() {
  vi.resetModules();
  const { session } = await import("./session");
  const logins: (string | undefined)[] = [];
  session.subscribe(() => logins.push(session.getSnapshot().login));
  return { session, logins };
}

test("a new log-in in another tab is noticed, and its tokens are not used by this page", async () => {
  const here = await page();
  here.session.start(answer("a"));
  const there = await page();
  there.session.end();
  there.session.start(answer("b")); // this page was asleep and missed both
  expect(await here.session.token()).toBeUndefined();
  expect(here.logins).toHaveLength(2);
  expect(here.logins[1]).toBe(there.session.getSnapshot().login);
  expect(await here.session.token()).toBe("access b");
});

test("a log-in that replaces a log-in counts as another one", async () => {
  const { session, logins } = await page();
  session.start(answer("a"));
  session.start(answer("b"));
  expect(new Set(logins).size).toBe(2);
});

test("a refresh is dropped if another account has logged in meanwhile", async () => {
  const here = await page();
  here.session.start(answer("a"));
  const fresh = here.session.refresh("access a");
  await asked(1);
  const there = await page();
  there.session.start(answer("b"));
  refreshes[0]!.done(Response.json(answer("a2")));
  expect(await fresh).toBeUndefined(); // not b's either: a request of a's must not be repeated as b
  expect(await there.session.token()).toBe("access b");
});

test("tokens refreshed by another tab are used, even if they become visible late", async () => {
  const { session } = await page();
  session.start(answer("a"));
  const fresh = session.refresh("access a");
  const [key, text] = [...store].find(([, v]) => v.includes("access a"))!;
  store.set(key, text.replace("access a", "access a2").replace("refresh a", "refresh a2"));
  expect(await fresh).toBe("access a2");
  expect(refreshes).toHaveLength(0);
});

test("a log-out does not end another account's log-in", async () => {
  const here = await page();
  here.session.start(answer("a"));
  const there = await page();
  there.session.start(answer("b"));
  here.session.end();
  expect(await there.session.token()).toBe("access b");
});

test("a refresh keeps the log-in, runs once for all tabs, and its failure does not log out", async () => {
  const { session, logins } = await page();
  session.start(answer("a"));
  const both = [session.refresh("access a"), session.refresh("access a")];
  await asked(1);
  refreshes[0]!.done(Response.json(answer("a2")));
  expect(await Promise.all(both)).toEqual(["access a2", "access a2"]);
  const broken = session.refresh("access a2");
  await asked(2);
  refreshes[1]!.done(new Response("<html>", { status: 200 }));
  expect(await broken).toBeUndefined();
  expect(await session.token()).toBe("access a2");
  expect(logins).toHaveLength(1);
});

test("a server that never answers a refresh does not block all tabs", async () => {
  const timeout = vi.spyOn(AbortSignal, "timeout").mockImplementation(() => AbortSignal.abort(new Error("late")));
  const { session } = await page();
  session.start(answer("a"));
  vi.stubGlobal("fetch", async (_: string, init: RequestInit) => init.signal?.throwIfAborted());
  expect(await session.refresh("access a")).toBeUndefined();
  expect(timeout).toHaveBeenCalled();
  timeout.mockRestore();
});

test("a browser's device token survives a log-out and a refresh", async () => {
  const { session } = await page();
  expect(session.deviceToken()).toBeNull();
  session.start({ ...answer("a"), device_token: "device" });
  session.end();
  expect(session.deviceToken()).toBe("device");
  session.start(answer("b"));
  expect((await page()).session.deviceToken()).toBe("device");
});
