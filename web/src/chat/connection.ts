// The chat's side of the bridge, outside React: it lives for as long as the workspace does, whatever
// panels come and go. State is read with useSyncExternalStore (see subscribe and snapshot).
import { openBridge, type BridgeAddress } from "@/api/bridge";
import { Reconnect, refusal, tellClosed, type State as Link } from "@/bridge/reconnect";
import { id, num, parseFrame, rec, type Decision, type Failure, type Frame } from "./frames";
import { Outbox, type Item } from "./outbox";
import { confirmedBy, empty, reduce, type Action, type ChatState } from "./reducer";

export interface ChatConfig {
  account: string; // whose outbox it is
  instance: string;
  session?: string | undefined; // that is open at first; default the main one
  mode?: "control" | "view"; // default control
  /** How a ticket is got; default openBridge. */
  open?: (signal: AbortSignal) => Promise<BridgeAddress>;
  storage?: Storage; // default localStorage
}

/** Snapshot is all that a page shows; a new object whenever something changed. */
export interface Snapshot {
  link: Link;
  chat: ChatState;
  everOpen: boolean; // there has been a connection since start
}

/** RequestError is what the agent answered instead of a result. */
export class RequestError extends Error {
  constructor(readonly failure: Failure) {
    super(failure.message);
    this.name = "RequestError";
  }
}

/** LostError says that no answer came: the request may have been carried out or not. */
export class LostError extends Error {
  constructor() {
    super("The connection broke before the agent answered.");
    this.name = "LostError";
  }
}

interface Waiting {
  method: string;
  params: object;
  again: boolean; // may be sent once more on the next connection: doing it twice changes nothing
  sent: boolean;
  timer: ReturnType<typeof setTimeout>;
  resolve: (payload: unknown) => void;
  reject: (error: Error) => void;
}

const answerWithin = 30_000;
const frameEvery = 50; // ms between two redraws while an answer streams, and more the longer it is: it is parsed each time
const page = 100; // messages a history request
const mostPages = 20; // asked for at a time
const mostTries = 3; // sends without an answer before the user is asked
const mostWaiting = 100;

export class ChatConnection {
  readonly outbox: Outbox;
  readonly #link: Reconnect;
  #chat: ChatState;
  #cached: Snapshot;
  #listeners = new Set<() => void>();
  #redraw: ReturnType<typeof setTimeout> | undefined;
  #socket: WebSocket | undefined;
  #waiting = new Map<string, Waiting>();
  #lastId = 0;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #silent = 75_000; // two ticks and a half
  #everOpen = false;
  #retry = new Map<string, ReturnType<typeof setTimeout>>(); // by session, of the outbox
  #relist: ReturnType<typeof setTimeout> | undefined;
  #expiry: ReturnType<typeof setTimeout> | undefined;
  readonly #config: ChatConfig;

  constructor(config: ChatConfig) {
    this.#config = config;
    this.outbox = new Outbox(config.account, config.instance, config.storage ?? localStorage);
    const current = config.session ?? empty.current;
    this.#chat = { ...empty, current, outbox: this.outbox.list(current) };
    this.#link = new Reconnect({
      connect: (generation, signal) => void this.#connect(generation, signal),
      needed: () => this.#needed(),
    });
    this.#cached = { link: this.#link.state, chat: this.#chat, everOpen: false };
    this.#link.subscribe(() => {
      if (this.#link.state.at !== "open") this.#lost();
      this.#draw();
    });
  }

  /** subscribe and snapshot suit useSyncExternalStore. */
  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
  snapshot = (): Snapshot => this.#cached;

  start(): void {
    window.addEventListener("storage", this.#stored);
    this.#link.send({ type: "start" });
  }

  /** stop ends the connection for good; what was not sent stays in the outbox. */
  stop(): void {
    window.removeEventListener("storage", this.#stored);
    this.#link.send({ type: "stop" });
    for (const timer of [this.#redraw, this.#relist, this.#expiry, ...this.#retry.values()]) clearTimeout(timer);
    this.#retry.clear();
    for (const [key, w] of this.#waiting) this.#settle(key, w, (x) => x.reject(new LostError()));
  }

  /** retryNow does not wait any longer: for a button, or for news that the machine is up. */
  retryNow(): void {
    this.#link.send({ type: "retryNow" });
  }

  // What the user does.

  /** send keeps a message and sends it as soon as that is possible; it throws a sentence where it cannot be kept. */
  send(text: string): void {
    const { current } = this.#chat;
    this.outbox.add(current, text, Date.now());
    this.#showOutbox(current);
    if (this.#chat.later && this.#link.state.at === "open")
      this.reload(); // and then
    else void this.#flush(current);
  }

  resend(key: string): void {
    const { current } = this.#chat;
    this.outbox.update(current, key, { state: "queued", tries: 0 });
    this.#showOutbox(current);
    void this.#flush(current);
  }

  discard(key: string): void {
    const { current } = this.#chat;
    this.outbox.remove(current, key);
    this.#showOutbox(current);
  }

  /** abort stops the answers under way in the open session. */
  async abort(): Promise<void> {
    const { current, runs } = this.#chat;
    for (const run of runs) this.#dispatch({ type: "stopping", run: run.id });
    await Promise.all(runs.map((run) => this.#request("chat.abort", { sessionKey: current, runId: run.id }, true)));
  }

  open(key: string): void {
    if (key === this.#chat.current) return;
    const before = this.#chat.current;
    this.#dispatch({ type: "open", key, outbox: this.outbox.list(key) });
    if (this.#link.state.at !== "open") return;
    this.#unfollow(before);
    void this.#load();
  }

  /** unfollow hears no more of a session, unless the list tells that it is being answered: then until it is. */
  #unfollow(key: string): void {
    if (key !== this.#chat.current && !this.#chat.busy.includes(key))
      this.#request("sessions.messages.unsubscribe", { key }).catch(ignore);
  }

  /** create begins a new session and opens it. */
  async create(): Promise<void> {
    const key = id(rec(await this.#request("sessions.create", {})).key);
    if (key) this.open(key);
    this.#listSoon(0);
  }

  async rename(key: string, label: string): Promise<void> {
    await this.#request("sessions.patch", { key, label }, true);
    this.#listSoon(0);
  }

  /** remove deletes a session. What is not archived only an administrator may delete, so it is archived first. */
  async remove(key: string): Promise<void> {
    await this.#request("sessions.patch", { key, archived: true }, true);
    await this.#request("sessions.delete", { key, archivedOnly: true }, true);
    this.outbox.clear(key);
    if (this.#chat.current === key) this.open(this.#chat.main);
    this.#listSoon(0);
  }

  async decide(approval: { id: string; kind: "exec" | "plugin" }, decision: Decision): Promise<void> {
    await this.#request(`${approval.kind}.approval.resolve`, { id: approval.id, decision }, true);
    this.#dispatch({ type: "answered", id: approval.id });
  }

  /** answer gives the answers by question id; undefined declines to answer. */
  async answer(inquiry: string, answers: Record<string, string[]> | undefined): Promise<void> {
    await this.#request(
      "question.resolve",
      answers ? { id: inquiry, answers: { answers } } : { id: inquiry, cancel: true },
      true,
    );
    this.#dispatch({ type: "answered", id: inquiry });
  }

  /** earlier loads the messages before those that are there. What came since has moved them: a page may hold none of them. */
  async earlier(): Promise<void> {
    const { current, messages } = this.#chat;
    for (let pages = 0; pages < mostPages; pages++) {
      const { earlier } = this.#chat;
      if (earlier === undefined || this.#chat.current !== current || this.#chat.messages[0] !== messages[0]) return;
      const payload = await this.#request("chat.history", { sessionKey: current, limit: page, offset: earlier });
      if (this.#chat.earlier === earlier)
        this.#dispatch({ type: "history", key: current, payload, offset: earlier, asked: Date.now() });
    }
  }

  /** reload asks for the newest messages of the open session again: where that failed, or they had to make room. */
  reload(): void {
    void this.#load();
  }

  // The connection.

  async #connect(generation: number, signal: AbortSignal): Promise<void> {
    let address: BridgeAddress;
    try {
      address = await (
        this.#config.open ?? ((s) => openBridge(this.#config.instance, "cloudbot", this.#config.mode ?? "control", s))
      )(signal);
    } catch (error) {
      if (!signal.aborted) this.#link.send({ type: "failed", generation, error: refusal(error) });
      return;
    }
    if (signal.aborted) return;
    const socket = new WebSocket(address.url, address.protocols);
    this.#socket = socket;
    signal.addEventListener("abort", () => socket.close());
    socket.addEventListener("message", (e: MessageEvent<unknown>) => {
      if (signal.aborted) return;
      this.#listen(generation);
      const frame = parseFrame(e.data);
      if (frame) this.#frame(frame, generation);
    });
    let opened = false;
    socket.addEventListener("open", () => (opened = true));
    socket.addEventListener("close", (e) =>
      tellClosed((event) => this.#link.send(event), generation, e, opened, address.whyNot, signal),
    );
  }

  /** listen notices a connection that is dead without being closed: the agent is never silent for long. */
  #listen(generation: number): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(
      () => this.#link.send({ type: "closed", generation, code: 1006, reason: "silent" }),
      this.#silent,
    );
  }

  #frame(f: Frame, generation: number): void {
    if (f.type === "event") {
      this.#event(f.event, f.payload);
      return;
    }
    const hello = rec(f.payload);
    if (this.#link.state.at === "connecting" && f.ok && hello.type === "hello-ok") {
      this.#opened(hello, generation);
      return;
    }
    const w = this.#waiting.get(f.id);
    if (w) this.#settle(f.id, w, () => (f.ok ? w.resolve(f.payload) : w.reject(new RequestError(f.error))));
  }

  #opened(hello: Record<string, unknown>, generation: number): void {
    const main = id(rec(rec(hello.snapshot).sessionDefaults).mainSessionKey) || this.#chat.main;
    this.#silent = Math.min(Math.max(num(rec(hello.policy).tickIntervalMs) ?? 30_000, 1_000), 120_000) * 2.5;
    this.#listen(generation);
    this.#everOpen = true;
    if (this.#chat.current === this.#chat.main && main !== this.#chat.main)
      this.#dispatch({ type: "open", key: main, outbox: this.outbox.list(main) });
    this.#dispatch({ type: "connected", main });
    this.#link.send({ type: "opened", generation });
    this.#request("sessions.subscribe", {}).catch(ignore);
    this.#listSoon(0);
    void this.#load();
    void this.#prompts();
    for (const w of this.#waiting) if (!w[1].sent) this.#transmit(...w);
  }

  /** lost gives up what was asked for and may not be asked twice. */
  #lost(): void {
    clearTimeout(this.#silence);
    this.#socket = undefined;
    for (const [key, w] of this.#waiting) {
      if (w.again) w.sent = false;
      else if (w.sent) this.#settle(key, w, () => w.reject(new LostError()));
    }
  }

  #event(name: string, payload: Record<string, unknown>): void {
    const before = this.#chat;
    this.#dispatch({ type: "event", event: name, payload, now: Date.now() }, true);
    for (const key of before.busy) this.#unfollow(key);
    if (name === "sessions.changed") {
      if (
        payload.reason === "delete" &&
        id(payload.sessionKey) === this.#chat.current &&
        this.#chat.current !== this.#chat.main
      )
        this.open(this.#chat.main);
      this.#listSoon(300);
    }
    // Not every gateway tells of approvals itself; that one is wanted shows in what the agent does.
    if (name === "agent" && payload.stream === "approval") void this.#prompts();
    if (this.#chat.runs.length < before.runs.length) {
      void this.#flush(this.#chat.current); // what had to wait for the answer
      if (this.#chat.approvals.length + this.#chat.inquiries.length > 0) void this.#prompts(); // what nobody waits for any more
    }
  }

  /** request resolves with the answer's payload. One that is `again` survives a broken connection. */
  #request(method: string, params: object, again = false): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.size >= mostWaiting) {
        reject(new Error("Too much is waiting for the agent's answer already."));
        return;
      }
      const key = `w${++this.#lastId}`;
      const timer = setTimeout(() => this.#settle(key, w, () => reject(new LostError())), answerWithin);
      const w: Waiting = { method, params, again, sent: false, timer, resolve, reject };
      this.#waiting.set(key, w);
      if (this.#link.state.at === "open") this.#transmit(key, w);
    });
  }

  #transmit(key: string, w: Waiting): void {
    w.sent = true;
    this.#socket?.send(JSON.stringify({ type: "req", id: key, method: w.method, params: w.params }));
  }

  #settle(key: string, w: Waiting, how: (w: Waiting) => void): void {
    clearTimeout(w.timer);
    this.#waiting.delete(key);
    how(w);
  }

  /** load follows the open session and gets its history, then sends what waits. */
  async #load(): Promise<void> {
    const { current: key } = this.#chat;
    this.#dispatch({ type: "loading" });
    this.#request("sessions.messages.subscribe", { key }).catch(ignore);
    const asked = Date.now();
    try {
      const payload = await this.#request("chat.history", { sessionKey: key, limit: page });
      const arrived = confirmedBy(payload);
      this.outbox.remove(key, ...arrived);
      this.#dispatch({ type: "history", key, payload, offset: 0, asked });
    } catch {
      this.#dispatch({ type: "historyFailed", key });
    }
    for (const session of new Set([key, ...this.outbox.sessions()])) void this.#flush(session);
  }

  async #prompts(): Promise<void> {
    const ask = async (method: string, then: (payload: unknown) => Action) => {
      try {
        this.#dispatch(then(await this.#request(method, {})));
      } catch {
        // who may only look is not told
      }
    };
    await Promise.all([
      ask("exec.approval.list", (payload) => ({ type: "approvals", kind: "exec", payload })),
      ask("plugin.approval.list", (payload) => ({ type: "approvals", kind: "plugin", payload })),
      ask("question.list", (payload) => ({ type: "inquiries", payload })),
    ]);
  }

  #listSoon(after: number): void {
    clearTimeout(this.#relist);
    this.#relist = setTimeout(() => {
      this.#request("sessions.list", { limit: 200, includeDerivedTitles: true }).then((payload) => {
        this.#dispatch({ type: "sessions", payload });
        this.#leaveDeleted();
      }, ignore);
    }, after);
  }

  /** leaveDeleted goes to the main session where the one that was to be open at first is no more. */
  #leaveDeleted(): void {
    const { current, main, history, messages, runs, outbox, sessions } = this.#chat;
    const nothing = history === "ready" && messages.length + runs.length + outbox.length === 0;
    if (nothing && current === this.#config.session && !sessions.some((s) => s.key === current)) this.open(main);
  }

  // The outbox.

  /** flush sends a session's messages in order, each when the one before was taken, from one tab at a time. */
  async #flush(session: string): Promise<void> {
    clearTimeout(this.#retry.get(session));
    if (this.outbox.list(session).every(waitsForUser)) return;
    await alone(this.outbox.lock(session), async () => {
      for (;;) {
        const item = this.outbox.list(session).find((i) => !waitsForUser(i));
        if (!item || this.#link.state.at !== "open") return;
        if (!(await this.#deliver(session, item))) return;
      }
    });
  }

  /** deliver sends one message and tells whether the next one's turn has come. */
  async #deliver(session: string, item: Item): Promise<boolean> {
    const tries = item.tries + 1;
    this.outbox.update(session, item.key, { state: "sent", tries });
    this.#showOutbox(session);
    try {
      await this.#request("chat.send", { sessionKey: session, message: item.text, idempotencyKey: item.key });
      this.outbox.remove(session, item.key);
      this.#dispatch({ type: "taken", key: session, item });
      this.#showOutbox(session);
      return true;
    } catch (error) {
      if (error instanceof RequestError && error.failure.retryable) {
        // It was not taken, and will be: the agent answers something else, or is starting.
        this.outbox.update(session, item.key, { state: "queued", tries: item.tries });
        this.#again(session, error.failure.retryAfterMs ?? 1_000);
      } else if (error instanceof RequestError) {
        this.outbox.update(session, item.key, { state: "refused", reason: error.failure.message });
      } else if (tries >= mostTries) {
        this.outbox.update(session, item.key, { state: "unconfirmed" });
      } else {
        this.#again(session, 5_000);
      }
      this.#showOutbox(session);
      return error instanceof RequestError && !error.failure.retryable;
    }
  }

  #again(session: string, after: number): void {
    clearTimeout(this.#retry.get(session));
    this.#retry.set(
      session,
      setTimeout(() => void this.#flush(session), Math.min(Math.max(after, 250), 30_000)),
    );
  }

  /** stored hears of what other tabs did to the outbox. */
  #stored = (e: StorageEvent): void => {
    const session = this.outbox.sessionOf(e.key);
    if (session !== undefined) this.#showOutbox(session);
  };

  #showOutbox(session: string): void {
    this.#dispatch({ type: "outbox", key: session, items: this.outbox.list(session) });
  }

  /** needed keeps a hidden page's connection: while something is under way the user waits for it elsewhere. */
  #needed(): boolean {
    return this.#chat.runs.length > 0 || this.outbox.sessions().some((s) => !this.outbox.list(s).every(waitsForUser));
  }

  // The snapshot.

  #dispatch(action: Action, soon = false): void {
    const before = this.#chat;
    this.#chat = reduce(before, action);
    if (this.#chat === before) return;
    if (this.#chat.approvals !== before.approvals || this.#chat.inquiries !== before.inquiries) this.#watchExpiry();
    if (!soon) this.#draw();
    else
      this.#redraw ??= setTimeout(
        () => this.#draw(),
        frameEvery + this.#chat.runs.reduce((n, r) => n + r.text.length, 0) / 200,
      );
  }

  #draw(): void {
    clearTimeout(this.#redraw);
    this.#redraw = undefined;
    this.#cached = { link: this.#link.state, chat: this.#chat, everOpen: this.#everOpen };
    for (const listener of this.#listeners) listener();
  }

  #watchExpiry(): void {
    clearTimeout(this.#expiry);
    const next = Math.min(...[...this.#chat.approvals, ...this.#chat.inquiries].map((p) => p.expiresAt));
    if (next !== Infinity)
      this.#expiry = setTimeout(
        () => this.#dispatch({ type: "expired", now: Date.now() }),
        Math.min(Math.max(0, next - Date.now()), 2 ** 31 - 1),
      );
  }
}

const waitsForUser = (i: Item) => i.state === "unconfirmed" || i.state === "refused";

const ignore = () => undefined;

/** alone runs f in one tab of this browser at a time. Where it cannot tell, the idempotency key still keeps a message from counting twice. */
async function alone(name: string, f: () => Promise<void>): Promise<void> {
  if (!("locks" in navigator)) return f();
  try {
    await navigator.locks.request(name, f);
  } catch {
    // the page is going; what waits is sent by the next one
  }
}
