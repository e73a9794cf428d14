// The chat's side of the bridge, outside React: it lives as long as the workspace, whatever panels are shown. Read its
// state with useSyncExternalStore (see subscribe and snapshot).
import { openBridge, type BridgeAddress } from "@/api/bridge";
import { Reconnect, refusal } from "@/bridge/reconnect";
import { openRequests } from "./asked";
import { stops } from "./control";
import { Delivery } from "./delivery";
import type { Place } from "./depot";
import { limitsIn, type Attached, type Limits } from "./files";
import { id, num, rec, type Decision, type Frame } from "./frames";
import { Gallery } from "./gallery";
import { carry, Quiet } from "./line";
import { Outbox } from "./outbox";
import { LostError, Requests } from "./requests";
import { empty, type ChatState, type Snapshot } from "./state";
import { Store } from "./store";
import { Uploads } from "./uploads";

export type { Snapshot };

export interface ChatConfig {
  account: string; // the outbox's owner
  instance: string;
  session?: string | undefined; // open at first; default the main one
  mode?: "control" | "view"; // default control
  /** Gets a ticket; default openBridge. */
  open?: (signal: AbortSignal) => Promise<BridgeAddress>;
  storage?: Storage; // default localStorage
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
  readonly #quiet: Quiet;
  #everOpen = false;
  #relist: ReturnType<typeof setTimeout> | undefined;
  readonly #config: ChatConfig;
  readonly uploads: Uploads;
  /** The limits of files, as the agent said at the latest connection. */
  limits: Limits = limitsIn({});
  /** The files of messages that are being written, by session. */
  readonly trays = new Map<string, Attached[]>();

  constructor(config: ChatConfig) {
    this.#config = config;
    this.uploads = new Uploads({
      account: config.account,
      open: (signal) => this.#address(signal),
      onChange: () => this.#store.draw(),
    });
    this.outbox = new Outbox(config.account, config.instance, config.storage ?? localStorage, (item) =>
      this.uploads.drop(item),
    );
    this.#delivery = new Delivery({
      outbox: this.outbox,
      isOpen: () => this.#link.state.at === "open",
      send: (session, item) => {
        const params = { sessionKey: session, message: item.text, idempotencyKey: item.key };
        return item.files ? this.uploads.send(item, params) : this.#request("chat.send", params);
      },
      ask: (session, offset) => this.history(session, offset),
      onAccepted: (session, item) => this.#store.dispatch({ type: "taken", key: session, item }),
      onChange: (session) => this.#showOutbox(session),
    });
    const current = config.session ?? empty.current;
    this.#store = new Store({ ...empty, current, outbox: this.outbox.list(current) }, () => this.#draw());
    this.#link = new Reconnect({
      connect: (generation, signal) => void this.#connect(generation, signal),
      needed: () => this.#needed(),
    });
    this.#quiet = new Quiet(this.#link);
    this.#cached = { link: this.#link.state, chat: this.#chat, everOpen: false, sending: this.uploads.progress };
    this.#link.subscribe(() => {
      if (this.#link.state.at !== "open") {
        this.#quiet.stop();
        this.#requests.lost();
        this.#delivery.lost();
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
    this.uploads.stop();
  }

  /** retryNow ends the wait: for a button, or when the machine has started. */
  retryNow(): void {
    this.#link.send({ type: "retryNow" });
  }

  // What the user does.

  /**
   * send stores a message and sends it as soon as possible. If it cannot be stored, send throws a sentence for the
   * user. The files are those that uploads has kept for it.
   */
  send(text: string, kept?: Place): void {
    const { current } = this.#chat;
    const filed = kept && { files: kept.files, held: kept.held };
    this.outbox.add(current, text, Date.now(), kept?.key, filed);
    this.#showOutbox(current);
    if (this.#chat.later && this.#link.state.at === "open")
      this.reload(); // loading then sends the message
    else void this.#delivery.flush(current);
  }

  resend(key: string): void {
    const { current } = this.#chat;
    this.outbox.again(current, key);
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

  /**
   * control takes mouse and keyboard of the desktop for the user, keeps them, or gives them back to the agent. It sends
   * nothing without a connection: the user would not expect it later.
   */
  async control(what: "take" | "give"): Promise<void> {
    if (this.#link.state.at !== "open") throw new LostError();
    const payload = await this.#request(`cloudbot.control.${what}`, {});
    this.#store.dispatch({ type: "control", payload, now: Date.now() });
  }

  /** stopAll stops what the agent does in all sessions, as far as this page knows. */
  async stopAll(): Promise<void> {
    for (const run of this.#chat.runs) this.#store.dispatch({ type: "stopping", run: run.id });
    await Promise.all(stops(this.#chat).map((params) => this.#request("chat.abort", params, true)));
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

  /** remove deletes a session. It is archived first: another may be deleted only by an administrator. */
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

  /** ask sends a request that may be sent again, and resolves with the answer. */
  ask = (method: string, params: object): Promise<unknown> => this.#request(method, params, true);

  /** gallery has the pictures that the agent left out. */
  readonly gallery = new Gallery(this.ask);

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
      const payload = await this.history(current, earlier);
      if (this.#chat.earlier === earlier)
        this.#store.dispatch({ type: "history", key: current, payload, offset: earlier, asked: Date.now() });
    }
  }

  /** history asks for a page of a session's messages. */
  history(session: string, offset = 0): Promise<unknown> {
    return this.#request("chat.history", { sessionKey: session, limit: page, ...(offset > 0 && { offset }) });
  }

  /** reload loads the newest messages of the open session again, after a failure or if they are hidden. */
  reload(): void {
    void this.#load();
  }

  // The connection.

  async #connect(generation: number, signal: AbortSignal): Promise<void> {
    let address: BridgeAddress;
    try {
      address = await this.#address(signal);
    } catch (error) {
      if (!signal.aborted) this.#link.send({ type: "failed", generation, error: refusal(error) });
      return;
    }
    if (signal.aborted) return;
    carry(address, generation, signal, {
      link: this.#link,
      heard: () => this.#quiet.heard(generation),
      frame: (f, transmit) => this.#frame(f, generation, transmit),
    });
  }

  #address(signal: AbortSignal): Promise<BridgeAddress> {
    const { instance, mode = "control", open } = this.#config;
    return open ? open(signal) : openBridge(instance, "cloudbot", mode, signal);
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
    this.#quiet.tick(num(rec(hello.policy).tickIntervalMs));
    this.limits = limitsIn(rec(hello.policy));
    this.#quiet.heard(generation);
    this.#everOpen = true;
    if (this.#chat.current === this.#chat.main && main !== this.#chat.main)
      this.#store.dispatch({ type: "open", key: main, outbox: this.outbox.list(main) });
    this.#store.dispatch({ type: "connected", main });
    this.#link.send({ type: "opened", generation });
    this.#requests.opened(transmit);
    this.#request("sessions.subscribe", {}).catch(ignore);
    this.#listSoon(0);
    void this.#load();
    void this.#askPrompts();
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
    if (name === "agent" && payload.stream === "approval") void this.#askPrompts();
    if (this.#chat.runs.length < before.runs.length) {
      void this.#delivery.flush(this.#chat.current); // messages that waited for the answer
      if (this.#chat.approvals.length + this.#chat.inquiries.length > 0) void this.#askPrompts(); // requests that may have been withdrawn
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
      const payload = await this.history(key);
      this.#delivery.saw(key, payload);
      this.#store.dispatch({ type: "history", key, payload, offset: 0, asked });
    } catch {
      this.#store.dispatch({ type: "historyFailed", key });
    }
    void this.#delivery.flushAll(key);
  }

  /** askPrompts asks for the requests that wait for the user. */
  #askPrompts(): Promise<void> {
    return openRequests(
      (method) => this.#request(method, {}),
      (action) => this.#store.dispatch(action),
    );
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
    if (current !== this.#config.session || sessions.some((s) => s.key === current)) return;
    if (history === "ready" && messages.length + runs.length + outbox.length === 0) this.open(main);
  }

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

  get #chat(): ChatState {
    return this.#store.chat;
  }

  #draw(): void {
    const { state: link } = this.#link;
    this.#cached = { link, chat: this.#chat, everOpen: this.#everOpen, sending: this.uploads.progress };
    for (const listener of this.#listeners) listener();
  }
}

const ignore = () => undefined;
