/**
 * When a bridge to a machine connects and reconnects: a pure state machine, `next`, and `Reconnect`, which runs
 * it with real timers and the browser's events. It knows nothing of WebSockets or of their content.
 *
 * An owner gives `Reconnect` a `connect(generation)` that starts an attempt and reports its outcome:
 *
 *     const link = new Reconnect({
 *       connect: async (generation, signal) => {
 *         try {
 *           const { url, protocols } = await openBridge(id, "vnc", "control", signal);
 *           if (signal.aborted) return;
 *           const socket = new WebSocket(url, protocols);
 *           socket.onopen = () => link.send({ type: "opened", generation });
 *           // A browser hides the status of a failed upgrade; reportClosed asks the server for it.
 *           socket.onclose = (e) => link.send({ type: "closed", generation, code: e.code, reason: e.reason });
 *           signal.addEventListener("abort", () => socket.close());
 *         } catch (error) { link.send({ type: "failed", generation, error: refusal(error) }); }
 *       },
 *     });
 *     link.send({ type: "start" });
 *
 * The one thing to know: every attempt has a generation, and reports from an earlier generation are ignored.
 * `signal` is aborted as soon as its attempt is no longer the current one.
 */

/** Why there is currently no connection; the page has a sentence for each. */
export type Why =
  | "lost" // the connection was open and broke
  | "unserved" // the server did not answer
  | "unreachable" // the machine did not answer
  | "starting" // the machine or its software is not ready yet
  | "restarting" // the server or the machine's service asked to reconnect later
  | "busy" // too many connections
  | "proxy" // a proxy does not pass WebSockets
  | "offline" // this computer has no network
  | "hidden"; // disconnected because the page is hidden

/** Why the connection ended permanently, each with one thing the user can do. */
export type Ending =
  | { reason: "signed_out"; action: "sign_in" }
  | { reason: "forbidden"; action: "leave" }
  | { reason: "gone"; action: "leave" }
  | { reason: "origin"; action: "retry" } // the server does not know this page's address
  | { reason: "refused"; action: "retry" };

export type State =
  | { at: "idle" }
  | { at: "connecting"; generation: number; attempt: number; until: number } // attempt: 1 is the first
  | { at: "open"; generation: number; since: number }
  | { at: "waiting"; until: number; why: Why } // until: Infinity waits for an event instead
  | ({ at: "ended" } & Ending);

/** How an attempt was refused over HTTP, as in ApiError. status 0: no answer. */
export interface Refusal {
  status: number;
  code?: string | undefined;
  retryAfter?: number | undefined; // seconds
}

export type Event =
  | { type: "start" } // from idle
  | { type: "opened"; generation: number }
  | { type: "closed"; generation: number; code: number; reason: string }
  | { type: "failed"; generation: number; error: Refusal }
  | { type: "due" } // the time of the state's `until` has come
  | { type: "online" }
  | { type: "offline" }
  | { type: "hidden" } // the page has been hidden for the grace period; send it only then
  | { type: "visible" }
  | { type: "retryNow" } // the user pressed the button, or the machine has started
  | { type: "stop" };

export interface Machine {
  state: State;
  generation: number; // of the latest attempt
  failures: number; // in a row
  online: boolean;
  visible: boolean;
}

const stable = 3_000; // open this long, a connection counts as a success
const patience = 25_000; // for an attempt to open
const first = 500;
const longest = 20_000;
const startingPause = 2_000;
const longestAsked = 120_000; // the longest wait that a server may ask for

export function machine(online = true, visible = true): Machine {
  return { state: { at: "idle" }, generation: 0, failures: 0, online, visible };
}

/** next returns the machine's state after an event. now is in milliseconds, random in [0, 1). */
export function next(m: Machine, e: Event, now: number, random: number): Machine {
  switch (e.type) {
    case "start":
      return m.state.at === "idle" ? connect(m, now) : m;
    case "opened":
      return m.state.at === "connecting" && e.generation === m.generation
        ? { ...m, state: { at: "open", generation: m.generation, since: now } }
        : m;
    case "closed":
      return current(m, e.generation) ? closed(m, e.code, e.reason, now, random) : m;
    case "failed":
      return m.state.at === "connecting" && e.generation === m.generation ? failed(m, e.error, now, random) : m;
    case "due":
      if (m.state.at === "waiting" && now >= m.state.until) return connect(m, now);
      if (m.state.at === "connecting" && now >= m.state.until) return backOff(m, "unreachable", now, random);
      return m;
    case "online": {
      const up = { ...m, online: true, failures: 0 };
      return m.state.at === "waiting" ? connect(up, now) : up;
    }
    case "offline":
      // An open connection may survive this; an attempt would only fail.
      return waitsOr({ ...m, online: false }, "offline");
    case "hidden":
      return waitsOr({ ...m, visible: false }, "hidden");
    case "visible": {
      const seen = { ...m, visible: true };
      return m.state.at === "waiting" && !m.visible ? connect(seen, now) : seen;
    }
    case "retryNow":
      return m.state.at === "waiting" || (m.state.at === "ended" && m.state.action === "retry")
        ? connect({ ...m, failures: 0 }, now)
        : m;
    case "stop":
      return { ...m, state: { at: "idle" } };
  }
}

function current(m: Machine, generation: number): boolean {
  return (m.state.at === "connecting" || m.state.at === "open") && generation === m.generation;
}

function connect(m: Machine, now: number): Machine {
  if (!m.online) return { ...m, state: { at: "waiting", until: Infinity, why: "offline" } };
  if (!m.visible) return { ...m, state: { at: "waiting", until: Infinity, why: "hidden" } };
  const generation = m.generation + 1;
  return { ...m, generation, state: { at: "connecting", generation, attempt: m.failures + 1, until: now + patience } };
}

/** waitsOr suspends reconnecting until the opposite event. */
function waitsOr(m: Machine, why: "offline" | "hidden"): Machine {
  if (m.state.at === "idle" || m.state.at === "ended") return m;
  if (why === "offline" && m.state.at === "open") return m;
  return { ...m, state: { at: "waiting", until: Infinity, why } };
}

function closed(m: Machine, code: number, reason: string, now: number, random: number): Machine {
  const wasOpen = m.state.at === "open";
  const settled = m.state.at === "open" && now - m.state.since >= stable ? { ...m, failures: 0 } : m;
  switch (code) {
    case 4401:
      return end(m, { reason: "signed_out", action: "sign_in" });
    case 4403:
      return end(m, { reason: "forbidden", action: "leave" });
    case 4404:
      return end(m, { reason: "gone", action: "leave" });
    case 1012: {
      const asked = retryMs(reason);
      return asked === undefined
        ? backOff(settled, "restarting", now, random)
        : wait(settled, "restarting", now + asked);
    }
    case 1013:
      return wait(settled, "starting", now + spread(startingPause, random));
    default:
      // A script sees a refusal before the upgrade only as 1006.
      return backOff(settled, wasOpen && code !== 1011 ? "lost" : "unreachable", now, random);
  }
}

function failed(m: Machine, { status, code, retryAfter }: Refusal, now: number, random: number): Machine {
  const asked = retryAfter === undefined ? undefined : Math.min(Math.max(retryAfter * 1000, 0), longestAsked);
  const later = (why: Why) =>
    asked === undefined ? backOff(m, why, now, random) : wait(m, why, now + Math.round(asked * (1 + random / 4)));
  switch (status) {
    case 401:
      return end(m, { reason: "signed_out", action: "sign_in" });
    case 403:
      return end(
        m,
        code === "foreign_origin" ? { reason: "origin", action: "retry" } : { reason: "forbidden", action: "leave" },
      );
    case 404:
    case 410:
      return end(m, { reason: "gone", action: "leave" });
    case 426:
      return later(code === "upgrade_lost" ? "proxy" : "unreachable");
    case 429:
      return later("busy");
    case 503:
      return later(code === "restarting" ? "restarting" : code === "busy" ? "busy" : "starting");
    case 0:
    case 500:
      return later("unserved");
    case 408:
    case 409:
    case 502:
    case 504:
      return later("unreachable");
    default:
      return end(m, { reason: "refused", action: "retry" });
  }
}

function end(m: Machine, ending: Ending): Machine {
  return { ...m, failures: 0, state: { at: "ended", ...ending } };
}

/**
 * wait waits for the time that the server asked for. It counts as a failure, so a server that always asks for a wait is
 * contacted less often.
 */
function wait(m: Machine, why: Why, until: number): Machine {
  return park({ ...m, failures: m.failures + 1, state: { at: "waiting", until, why } });
}

function backOff(m: Machine, why: Why, now: number, random: number): Machine {
  const most = Math.min(first * 2 ** m.failures, longest);
  return wait(m, why, now + spread(most, random));
}

/** park waits without a time limit if an attempt could not be made anyway. */
function park(m: Machine): Machine {
  if (!m.online) return { ...m, state: { at: "waiting", until: Infinity, why: "offline" } };
  if (!m.visible) return { ...m, state: { at: "waiting", until: Infinity, why: "hidden" } };
  return m;
}

/** spread keeps many browsers from reconnecting at the same time; never sooner than half. */
const spread = (ms: number, random: number) => Math.round(ms / 2 + (ms / 2) * random);

/** retryMs reads the reason of a close 1012: {"retry_ms":1234}. */
function retryMs(reason: string): number | undefined {
  try {
    const asked: unknown = (JSON.parse(reason) as { retry_ms?: unknown } | null)?.retry_ms;
    return typeof asked === "number" && asked >= 0 ? Math.min(asked, longestAsked) : undefined;
  } catch {
    return undefined;
  }
}

/** refusal makes a Refusal of any thrown value: an ApiError keeps its status, anything else is no answer. */
export function refusal(error: unknown): Refusal {
  const e = (typeof error === "object" && error !== null ? error : {}) as {
    status?: unknown;
    code?: unknown;
    retryAfter?: unknown;
  };
  return {
    status: typeof e.status === "number" ? e.status : 0,
    code: typeof e.code === "string" ? e.code : undefined,
    retryAfter: typeof e.retryAfter === "number" ? e.retryAfter : undefined,
  };
}

/**
 * reportClosed reports a socket that closed. If it never opened, the browser reports only 1006; then whyNot asks the
 * server first. If whyNot fails too, the browser's code is reported.
 */
export function reportClosed(
  send: (e: Event) => void,
  generation: number,
  { code, reason }: { code: number; reason: string },
  opened: boolean,
  whyNot: ((gone: AbortSignal) => Promise<unknown>) | undefined,
  signal: AbortSignal,
): void {
  const said: Event = { type: "closed", generation, code, reason };
  if (opened || code !== 1006 || !whyNot || signal.aborted) {
    send(said);
    return;
  }
  whyNot(signal).then(
    (error) => signal.aborted || send({ type: "failed", generation, error: refusal(error) }),
    () => signal.aborted || send(said),
  );
}

export interface ReconnectConfig {
  /** Starts attempt `generation`, which reports by `send`. signal: the attempt, or its connection, is over. */
  connect: (generation: number, signal: AbortSignal) => void;
  /** Called when the page has been hidden for the grace period: true keeps the connection for another period. */
  needed?: () => boolean;
  grace?: number; // ms a hidden page keeps its connection; default 30 s
}

/**
 * Reports whether an attempt makes sense. The browser knows only of networks, and a server on this computer needs none.
 */
const online = () => navigator.onLine || /^(localhost|127\.|\[::1\])/.test(globalThis.location?.hostname ?? "");

/** Reconnect runs the machine. `state` is a new object exactly when it changed; subscribe to be notified. */
export class Reconnect {
  #m = machine(online(), true);
  #listeners = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #hiding: ReturnType<typeof setTimeout> | undefined;
  #attempt: AbortController | undefined;
  #watching: AbortController | undefined;
  readonly #config: ReconnectConfig;

  constructor(config: ReconnectConfig) {
    this.#config = config;
  }

  get state(): State {
    return this.#m.state;
  }

  /** subscribe and `() => link.state` suit useSyncExternalStore. */
  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  send(e: Event): void {
    if (e.type === "start" && this.#m.state.at === "idle") this.#watch();
    if (e.type === "stop") this.#unwatch();
    const before = this.#m;
    this.#m = next(before, e, Date.now(), Math.random());
    if (this.#m.state === before.state) return;
    this.#arm();
    const { state } = this.#m;
    if (state.at !== "open") {
      this.#attempt?.abort();
      this.#attempt = undefined;
    }
    if (state.at === "connecting") {
      this.#attempt = new AbortController();
      this.#config.connect(state.generation, this.#attempt.signal);
    }
    for (const listener of this.#listeners) listener();
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const { state } = this.#m;
    if ((state.at === "waiting" || state.at === "connecting") && state.until !== Infinity) {
      this.#timer = setTimeout(() => this.send({ type: "due" }), Math.max(0, state.until - Date.now()));
    }
  }

  #watch(): void {
    this.#m = { ...this.#m, online: online(), visible: true };
    this.#watching = new AbortController();
    const { signal } = this.#watching;
    window.addEventListener("online", () => this.send({ type: "online" }), { signal });
    window.addEventListener("offline", () => online() || this.send({ type: "offline" }), { signal });
    document.addEventListener("visibilitychange", () => this.#look(), { signal });
    this.#look();
  }

  #unwatch(): void {
    this.#watching?.abort();
    clearTimeout(this.#hiding);
    clearTimeout(this.#timer);
  }

  #look(): void {
    clearTimeout(this.#hiding);
    if (document.visibilityState !== "hidden") {
      this.send({ type: "visible" });
      return;
    }
    const letGo = () => {
      if (this.#config.needed?.()) this.#hiding = setTimeout(letGo, this.#config.grace ?? 30_000);
      else this.send({ type: "hidden" });
    };
    this.#hiding = setTimeout(letGo, this.#config.grace ?? 30_000);
  }
}
