// The chat's side of the bridge, outside React: it lives as long as the workspace, whatever panels are shown. Read its
// state with useSyncExternalStore (see subscribe and snapshot).
import { openBridge, type BridgeAddress } from "@/api/bridge";
import { Reconnect, refusal, reportClosed, type State as Link } from "@/bridge/reconnect";
import { Delivery } from "./delivery";
import { id, num, parseFrame, rec, type Decision, type Frame } from "./frames";
import { confirmedBy } from "./history";
import { Outbox } from "./outbox";
import type { Action } from "./reducer";
import { Requests } from "./requests";
import { empty, type ChatState } from "./state";
import { Store } from "./store";

export interface ChatConfig {
  account: string; // the outbox's owner
  instance: string;
  session?: string | undefined; // open at first; default the main one
  mode?: "control" | "view"; // default control
  /** Gets a ticket; default openBridge. */
  open?: (signal: AbortSignal) => Promise<BridgeAddress>;
  storage?: Storage; // default localStorage
}

/** Snapshot is all that a page shows; a new object whenever something changed. */
export interface Snapshot {
  link: Link;
  chat: ChatState;
  everOpen: boolean; // there has been a connection since start
}

const page = 100; // messages per history request
const mostPages = 20; // pages per request of the user

export class ChatConnection {
  readonly outbox: Outbox;
  readonly #link: Reconnect;
  readonly #store: Store;
  #cached: Snapshot;
  #listeners = new Set<() => void>();
  readonly #requests = new Requests();
  readonly #delivery: Delivery;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #silent = 75_000; // two and a half ticks
  #everOpen = false;
  #relist: ReturnType<typeof setTimeout> | undefined;
  readonly #config: ChatConfig;

  constructor(config: ChatConfig) {
    this.#config = config;
    this.outbox = new Outbox(config.account, config.instance, config.storage ?? localStorage);
    this.#delivery = new Delivery({
      outbox: this.outbox,
      isOpen: () => this.#link.state.at === "open",
      send: (session, item) =>
        this.#request("chat.send", { sessionKey: session, message: item.text, idempotencyKey: item.key }),
      onAccepted: (session, item) => this.#store.dispatch({ type: "taken", key: session, item }),
      onChange: (session) => this.#showOutbox(session),
    });
    const current = config.session ?? empty.current;
    this.#store = new Store({ ...empty, current, outbox: this.outbox.list(current) }, () => this.#draw());
    this.#link = new Reconnect({
      connect: (generation, signal) => void this.#connect(generation, signal),
      needed: () => this.#needed(),
    });
    this.#cached = { link: this.#link.state, chat: this.#chat, everOpen: false };
    this.#link.subscribe(() => {
      if (this.#link.state.at !== "open") {
        clearTimeout(this.#silence);
        this.#requests.lost();
      }
      this.#store.draw();
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

  /** stop ends the connection permanently; unsent messages stay in the outbox. */
  stop(): void {
    window.removeEventListener("storage", this.#stored);
    this.#link.send({ type: "stop" });
    clearTimeout(this.#relist);
    this.#store.stop();
    this.#delivery.stop();
    this.#requests.stop();
  }

  /** retryNow ends the wait: for a button, or when the machine has started. */
  retryNow(): void {
    this.#link.send({ type: "retryNow" });
  }

  // What the user does.

  /**
   * send stores a message and sends it as soon as possible. If it cannot be stored, send throws a sentence for the
   * user.
   */
  send(text: string): void {
    const { current } = this.#chat;
    this.outbox.add(current, text, Date.now());
    this.#showOutbox(current);
    if (this.#chat.later && this.#link.state.at === "open")
      this.reload(); // loading then sends the message
    else void this.#delivery.flush(current);
  }

  resend(key: string): void {
    const { current } = this.#chat;
    this.outbox.update(current, key, { state: "queued", tries: 0 });
    this.#showOutbox(current);
    void this.#delivery.flush(current);
  }

  discard(key: string): void {
    const { current } = this.#chat;
    this.outbox.remove(current, key);
    this.#showOutbox(current);
  }

  /** abort stops the answers under way in the open session. */
  async abort(): Promise<void> {
    const { current, runs } = this.#chat;
    for (const run of runs) this.#store.dispatch({ type: "stopping", run: run.id });
    await Promise.all(runs.map((run) => this.#request("chat.abort", { sessionKey: current, runId: run.id }, true)));
  }

  open(key: string): void {
    if (key === this.#chat.current) return;
    const before = this.#chat.current;
    this.#store.dispatch({ type: "open", key, outbox: this.outbox.list(key) });
    if (this.#link.state.at !== "open") return;
    this.#unfollow(before);
    void this.#load();
  }

  /** unfollow unsubscribes from a session. A session that is being answered stays subscribed until its answer ends. */
  #unfollow(key: string): void {
    if (key !== this.#chat.current && !this.#chat.busy.includes(key))
      this.#request("sessions.messages.unsubscribe", { key }).catch(ignore);
  }

  /** create starts a new session and opens it. */
  async create(): Promise<void> {
    const key = id(rec(await this.#request("sessions.create", {})).key);
    if (key) this.open(key);
    this.#listSoon(0);
  }

  async rename(key: string, label: string): Promise<void> {
    await this.#request("sessions.patch", { key, label }, true);
    this.#listSoon(0);
  }

  /**
   * remove deletes a session. Only an administrator may delete a session that is not archived, so it is archived first.
   */
  async remove(key: string): Promise<void> {
    await this.#request("sessions.patch", { key, archived: true }, true);
    await this.#request("sessions.delete", { key, archivedOnly: true }, true);
    this.outbox.clear(key);
    if (this.#chat.current === key) this.open(this.#chat.main);
    this.#listSoon(0);
  }

  async decide(approval: { id: string; kind: "exec" | "plugin" }, decision: Decision): Promise<void> {
    await this.#request(`${approval.kind}.approval.resolve`, { id: approval.id, decision }, true);
    this.#store.dispatch({ type: "answered", id: approval.id });
  }

  /** answer sends the answers by question id; undefined declines to answer. */
  async answer(inquiry: string, answers: Record<string, string[]> | undefined): Promise<void> {
    await this.#request(
      "question.resolve",
      answers ? { id: inquiry, answers: { answers } } : { id: inquiry, cancel: true },
      true,
    );
    this.#store.dispatch({ type: "answered", id: inquiry });
  }

  /** dismiss removes a request that can no longer be answered. */
  dismiss(prompt: string): void {
    this.#store.dispatch({ type: "answered", id: prompt });
  }

  /** earlier loads older messages. New messages shift the pages, so one page may hold no older message. */
  async earlier(): Promise<void> {
    const { current, messages } = this.#chat;
    for (let pages = 0; pages < mostPages; pages++) {
      const { earlier } = this.#chat;
      if (earlier === undefined || this.#chat.current !== current || this.#chat.messages[0] !== messages[0]) return;
      const payload = await this.#request("chat.history", { sessionKey: current, limit: page, offset: earlier });
      if (this.#chat.earlier === earlier)
        this.#store.dispatch({ type: "history", key: current, payload, offset: earlier, asked: Date.now() });
    }
  }

  /** reload loads the newest messages of the open session again, after a failure or if they are hidden. */
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
    signal.addEventListener("abort", () => socket.close());
    socket.addEventListener("message", (e: MessageEvent<unknown>) => {
      if (signal.aborted) return;
      this.#listen(generation);
      const frame = parseFrame(e.data);
      if (frame) this.#frame(frame, generation, (text) => socket.send(text));
    });
    let opened = false;
    socket.addEventListener("open", () => (opened = true));
    socket.addEventListener("close", (e) =>
      reportClosed((event) => this.#link.send(event), generation, e, opened, address.whyNot, signal),
    );
  }

  /** listen detects a connection that is dead but not closed: the agent is never silent for long. */
  #listen(generation: number): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(
      () => this.#link.send({ type: "closed", generation, code: 1006, reason: "silent" }),
      this.#silent,
    );
  }

  #frame(f: Frame, generation: number, transmit: (text: string) => void): void {
    if (f.type === "event") {
      this.#event(f.event, f.payload);
      return;
    }
    const hello = rec(f.payload);
    if (this.#link.state.at === "connecting" && f.ok && hello.type === "hello-ok") {
      this.#opened(hello, generation, transmit);
      return;
    }
    this.#requests.answered(f);
  }

  #opened(hello: Record<string, unknown>, generation: number, transmit: (text: string) => void): void {
    const main = id(rec(rec(hello.snapshot).sessionDefaults).mainSessionKey) || this.#chat.main;
    this.#silent = Math.min(Math.max(num(rec(hello.policy).tickIntervalMs) ?? 30_000, 1_000), 120_000) * 2.5;
    this.#listen(generation);
    this.#everOpen = true;
    if (this.#chat.current === this.#chat.main && main !== this.#chat.main)
      this.#store.dispatch({ type: "open", key: main, outbox: this.outbox.list(main) });
    this.#store.dispatch({ type: "connected", main });
    this.#link.send({ type: "opened", generation });
    this.#requests.opened(transmit);
    this.#request("sessions.subscribe", {}).catch(ignore);
    this.#listSoon(0);
    void this.#load();
    void this.#prompts();
  }

  #event(name: string, payload: Record<string, unknown>): void {
    const before = this.#chat;
    this.#store.dispatch({ type: "event", event: name, payload, now: Date.now() }, true);
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
    // Not every gateway reports approvals itself; the agent's events show that one is needed.
    if (name === "agent" && payload.stream === "approval") void this.#prompts();
    if (this.#chat.runs.length < before.runs.length) {
      void this.#delivery.flush(this.#chat.current); // messages that waited for the answer
      if (this.#chat.approvals.length + this.#chat.inquiries.length > 0) void this.#prompts(); // requests that may have been withdrawn
    }
  }

  #request(method: string, params: object, repeatable = false): Promise<unknown> {
    return this.#requests.request(method, params, repeatable);
  }

  /** load subscribes to the open session, loads its history, then sends waiting messages. */
  async #load(): Promise<void> {
    const { current: key } = this.#chat;
    this.#store.dispatch({ type: "loading" });
    this.#request("sessions.messages.subscribe", { key }).catch(ignore);
    const asked = Date.now();
    try {
      const payload = await this.#request("chat.history", { sessionKey: key, limit: page });
      const arrived = confirmedBy(payload);
      this.outbox.remove(key, ...arrived);
      this.#store.dispatch({ type: "history", key, payload, offset: 0, asked });
    } catch {
      this.#store.dispatch({ type: "historyFailed", key });
    }
    for (const session of new Set([key, ...this.outbox.sessions()])) void this.#delivery.flush(session);
  }

  async #prompts(): Promise<void> {
    const ask = async (method: string, then: (payload: unknown) => Action) => {
      try {
        this.#store.dispatch(then(await this.#request(method, {})));
      } catch {
        // a viewer without control may not read them
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
        this.#store.dispatch({ type: "sessions", payload });
        this.#leaveDeleted();
      }, ignore);
    }, after);
  }

  /** leaveDeleted opens the main session if the session to open first no longer exists. */
  #leaveDeleted(): void {
    const { current, main, history, messages, runs, outbox, sessions } = this.#chat;
    const nothing = history === "ready" && messages.length + runs.length + outbox.length === 0;
    if (nothing && current === this.#config.session && !sessions.some((s) => s.key === current)) this.open(main);
  }

  // The outbox.

  /** stored follows changes of the outbox by other tabs. */
  #stored = (e: StorageEvent): void => {
    const session = this.outbox.sessionOf(e.key);
    if (session !== undefined) this.#showOutbox(session);
  };

  #showOutbox(session: string): void {
    this.#store.dispatch({ type: "outbox", key: session, items: this.outbox.list(session) });
  }

  /** needed keeps a hidden page's connection while the user waits for an answer or a delivery. */
  #needed(): boolean {
    return this.#chat.runs.length > 0 || this.#delivery.pending;
  }

  // The snapshot.

  get #chat(): ChatState {
    return this.#store.chat;
  }

  #draw(): void {
    this.#cached = { link: this.#link.state, chat: this.#chat, everOpen: this.#everOpen };
    for (const listener of this.#listeners) listener();
  }
}

const ignore = () => undefined;
