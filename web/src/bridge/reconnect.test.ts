import { describe, expect, test } from "vitest";
import { machine, next, refusal, reportClosed, type Event, type Machine } from "./reconnect";

/** play runs events, each at its time, with the middle of all jitter. */
function play(events: [number, Event][], from: Machine = machine()): Machine {
  return events.reduce((m, [at, e]) => next(m, e, at, 0.5), from);
}
const opened = (generation: number): Event => ({ type: "opened", generation });
const closed = (generation: number, code: number, reason = ""): Event => ({ type: "closed", generation, code, reason });
const failed = (generation: number, status: number, more = {}): Event => ({
  type: "failed",
  generation,
  error: { status, ...more },
});

/** reported returns the events that the machine receives for a socket that closed. */
async function reported(code: number, everOpen: boolean, whyNot?: () => Promise<unknown>): Promise<Event[]> {
  const events: Event[] = [];
  reportClosed((e) => events.push(e), 7, { code, reason: "r" }, everOpen, whyNot, new AbortController().signal);
  await Promise.resolve()
    .then(() => {})
    .then(() => {});
  return events;
}
const answer = () => Promise.resolve({ status: 403, code: "foreign_origin" });

describe("reconnect", () => {
  test("connects, opens and records since when", () => {
    expect(play([[0, { type: "start" }]]).state).toEqual({
      at: "connecting",
      generation: 1,
      attempt: 1,
      until: 25_000,
    });
    expect(
      play([
        [0, { type: "start" }],
        [70, opened(1)],
      ]).state,
    ).toEqual({ at: "open", generation: 1, since: 70 });
  });

  test("late reports from an earlier attempt change nothing", () => {
    const m = play([
      [0, { type: "start" }],
      [25_000, { type: "due" }],
      [26_000, { type: "due" }],
    ]);
    expect(m.state).toMatchObject({ at: "connecting", generation: 2 });
    for (const late of [opened(1), closed(1, 4404), failed(1, 401)]) expect(next(m, late, 26_100, 0.5)).toBe(m);
    const stopped = next(m, { type: "stop" }, 26_200, 0.5);
    expect(next(stopped, opened(2), 26_300, 0.5)).toBe(stopped);
  });

  test("waits longer after each failure, up to a limit, and starts over only after three stable seconds", () => {
    let m = play([[0, { type: "start" }]]);
    const waits: number[] = [];
    for (let i = 1, now = 0; i <= 9; i++) {
      m = next(m, failed(i, 0), now, 0.999999);
      if (m.state.at !== "waiting") throw new Error(m.state.at);
      waits.push(m.state.until - now);
      now = m.state.until;
      m = next(m, { type: "due" }, now, 0.5);
    }
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000]);
    const flapping = play(
      [
        [0, opened(10)],
        [2_999, closed(10, 1006)],
      ],
      m,
    );
    expect(flapping.failures).toBe(10);
    const settled = play(
      [
        [0, opened(10)],
        [3_000, closed(10, 1006)],
      ],
      m,
    );
    expect(settled.state).toEqual({ at: "waiting", until: 3_375, why: "lost" });
  });

  test("reconnects when the server asks for it", () => {
    const from = play([
      [0, { type: "start" }],
      [10, opened(1)],
    ]);
    expect(play([[5_000, closed(1, 1012, '{"retry_ms":1234}')]], from).state).toEqual({
      at: "waiting",
      until: 6_234,
      why: "restarting",
    });
    expect(play([[5_000, closed(1, 1012, "soon")]], from).state).toMatchObject({
      at: "waiting",
      until: 5_375,
      why: "restarting",
    });
    expect(play([[5_000, closed(1, 1012, '{"retry_ms":1e12}')]], from).state).toMatchObject({ until: 125_000 });
    expect(play([[5_000, closed(1, 1013)]], from).state).toMatchObject({ why: "starting", until: 6_500 });
    expect(
      play([
        [0, { type: "start" }],
        [9, failed(1, 503, { code: "agent_starting", retryAfter: 4 })],
      ]).state,
    ).toEqual({ at: "waiting", until: 4_509, why: "starting" });
    expect(
      play([
        [0, { type: "start" }],
        [9, failed(1, 0)],
      ]).state,
    ).toMatchObject({ why: "unserved" });
    expect(
      play([
        [0, { type: "start" }],
        [9, failed(1, 502)],
      ]).state,
    ).toMatchObject({ why: "unreachable" });
    expect(
      play([
        [0, { type: "start" }],
        [9, failed(1, 429, { retryAfter: 60 })],
      ]).state,
    ).toMatchObject({ why: "busy", until: 67_509 });
  });

  test.each([
    [closed(1, 4401), { at: "ended", reason: "signed_out", action: "sign_in" }],
    [closed(1, 4403), { at: "ended", reason: "forbidden", action: "leave" }],
    [closed(1, 4404), { at: "ended", reason: "gone", action: "leave" }],
    [failed(1, 401), { at: "ended", reason: "signed_out", action: "sign_in" }],
    [failed(1, 403), { at: "ended", reason: "forbidden", action: "leave" }],
    [failed(1, 404), { at: "ended", reason: "gone", action: "leave" }],
    [failed(1, 400), { at: "ended", reason: "refused", action: "retry" }],
  ] as const)("%o ends it", (event, state) => {
    const m = play([
      [0, { type: "start" }],
      [10, event],
    ]);
    expect(m.state).toEqual(state);
    expect(
      play(
        [
          [20, { type: "due" }],
          [30, { type: "online" }],
          [40, { type: "hidden" }],
          [50, { type: "visible" }],
        ],
        m,
      ).state,
    ).toEqual(state);
    expect(play([[60, { type: "retryNow" }]], m).state.at).toBe(state.action === "retry" ? "connecting" : "ended");
  });

  test("without a network it waits for one instead of trying", () => {
    const m = play([
      [0, { type: "start" }],
      [10, { type: "offline" }],
    ]);
    expect(m.state).toEqual({ at: "waiting", until: Infinity, why: "offline" });
    expect(play([[20, { type: "online" }]], m).state).toMatchObject({ at: "connecting", generation: 2, attempt: 1 });
    // An open connection may survive; when it breaks, it waits.
    const open = play([
      [0, { type: "start" }],
      [10, opened(1)],
      [20, { type: "offline" }],
    ]);
    expect(open.state.at).toBe("open");
    expect(play([[9_000, closed(1, 1006)]], open).state).toMatchObject({ why: "offline", until: Infinity });
    expect(play([[0, { type: "start" }]], machine(false)).state).toMatchObject({ why: "offline" });
  });

  test("a hidden page disconnects, and reconnects immediately when it is visible", () => {
    const hidden = play([
      [0, { type: "start" }],
      [10, opened(1)],
      [40_000, { type: "hidden" }],
    ]);
    expect(hidden.state).toEqual({ at: "waiting", until: Infinity, why: "hidden" });
    expect(play([[50_000, { type: "online" }]], hidden).state).toMatchObject({ why: "hidden" });
    expect(play([[60_000, { type: "visible" }]], hidden).state).toMatchObject({ at: "connecting", generation: 2 });
    // Becoming visible is no reason to skip a back-off.
    const waiting = play([
      [0, { type: "start" }],
      [10, failed(1, 502)],
    ]);
    expect(play([[20, { type: "visible" }]], waiting).state).toBe(waiting.state);
  });

  test("retryNow does not wait", () => {
    const waiting = play([
      [0, { type: "start" }],
      [10, failed(1, 502)],
      [20, { type: "retryNow" }],
    ]);
    expect(waiting.state).toMatchObject({ at: "connecting", attempt: 1, generation: 2 });
  });

  test("a proxy without upgrades and an address unknown to the server are distinguished", () => {
    const begun = play([[0, { type: "start" }]]);
    const after = (status: number, code: string) => play([[10, failed(1, status, { code })]], begun).state;
    expect(after(426, "upgrade_lost")).toMatchObject({ at: "waiting", why: "proxy" });
    expect(after(426, "upgrade_required")).toMatchObject({ at: "waiting", why: "unreachable" });
    expect(after(403, "foreign_origin")).toMatchObject({ at: "ended", reason: "origin", action: "retry" });
    expect(after(403, "forbidden")).toMatchObject({ at: "ended", reason: "forbidden" });
  });

  test("the server gives the reason for a socket that never opened, if it can be reached", async () => {
    const said = [{ type: "closed", generation: 7, code: 1006, reason: "r" }];
    expect(await reported(1006, false, answer)).toEqual([
      { type: "failed", generation: 7, error: { status: 403, code: "foreign_origin", retryAfter: undefined } },
    ]);
    expect(await reported(1006, true, answer)).toEqual(said); // it broke later
    expect(await reported(1006, false)).toEqual(said);
    expect(await reported(1006, false, () => Promise.reject(new TypeError("network")))).toEqual(said);
    expect(await reported(4401, false, answer)).toEqual([{ ...said[0], code: 4401 }]); // the server gave the reason
  });

  test("any thrown value becomes a refusal", () => {
    expect(refusal(new TypeError("network"))).toEqual({ status: 0, code: undefined, retryAfter: undefined });
    expect(refusal({ status: 503, code: "not_ready", retryAfter: 2 })).toEqual({
      status: 503,
      code: "not_ready",
      retryAfter: 2,
    });
    expect(refusal(null).status).toBe(0);
  });
});
