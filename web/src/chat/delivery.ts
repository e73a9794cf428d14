// How the outbox's messages reach the agent. On each connection, a session's messages are sent only after that session's
// history was asked: see confirm.
import { confirm } from "./confirm";
import type { Failure } from "./frames";
import { confirmedBy } from "./history";
import type { Item, Outbox } from "./outbox";
import { RequestError } from "./requests";

export interface DeliveryConfig {
  outbox: Outbox;
  isOpen: () => boolean;
  /** Sends one message; rejects as Requests.request does. */
  send: (session: string, item: Item) => Promise<unknown>;
  /** Asks for a page of a session's history. */
  ask: (session: string, offset: number) => Promise<unknown>;
  /** The agent accepted the message. */
  onAccepted: (session: string, item: Item) => void;
  /** The session's outbox changed. */
  onChange: (session: string) => void;
}

const mostTries = 3; // sends without an answer before the user is asked
const lostRetry = 5_000;
const busyRetry = 1_000;
const historyRetry = 10_000;

/** Delivery sends the outbox's messages in order and retries. */
export class Delivery {
  readonly #config: DeliveryConfig;
  #retries = new Map<string, ReturnType<typeof setTimeout>>(); // by session
  #checked = new Set<string>(); // sessions whose history was asked on this connection

  constructor(config: DeliveryConfig) {
    this.#config = config;
  }

  /** pending reports whether a message waits to be sent, not for the user. */
  get pending(): boolean {
    const { outbox } = this.#config;
    return outbox.sessions().some((s) => !outbox.list(s).every(waitsForUser));
  }

  /** lost forgets what the connection that ended has shown. */
  lost(): void {
    this.#checked = new Set();
  }

  /** saw takes the newest page of a session's history: it may confirm all that was sent. */
  saw(session: string, page: unknown): void {
    const { outbox } = this.#config;
    outbox.remove(session, ...confirmedBy(page));
    if (!outbox.list(session).some((i) => i.tried)) this.#checked.add(session);
  }

  /** flushAll sends the messages of all sessions, one session after the other, the first one first. */
  async flushAll(first: string): Promise<void> {
    for (const session of new Set([first, ...this.#config.outbox.sessions()])) await this.flush(session);
  }

  /** flush sends a session's messages, each after the previous one was accepted, from one tab at a time. */
  async flush(session: string): Promise<void> {
    const { outbox, isOpen } = this.#config;
    clearTimeout(this.#retries.get(session));
    if (outbox.list(session).every(waitsForUser)) return;
    await alone(outbox.lock(session), async () => {
      for (;;) {
        const item = outbox.list(session).find((i) => !waitsForUser(i));
        if (!item || !isOpen()) return;
        if (!this.#checked.has(session)) {
          if (!(await this.#check(session))) return;
          continue;
        }
        if (!(await this.#deliver(session, item))) return;
      }
    });
  }

  stop(): void {
    for (const timer of this.#retries.values()) clearTimeout(timer);
    this.#retries.clear();
  }

  /** check asks a session's history which messages have arrived, and reports whether the others may be sent. */
  async #check(session: string): Promise<boolean> {
    const { outbox, ask, isOpen, onChange } = this.#config;
    const checked = this.#checked; // of this connection
    const tried = outbox.list(session).filter((i) => i.tried);
    try {
      const { arrived, unsure } = await confirm(
        (offset) => ask(session, offset),
        tried.map((i) => i.key),
      );
      outbox.remove(session, ...arrived);
      for (const key of unsure) outbox.update(session, key, { state: "unconfirmed" });
      checked.add(session);
      this.#change(session, "unchecked", "queued");
    } catch {
      if (!isOpen() || checked !== this.#checked) return false; // the next connection checks it
      this.#change(session, "queued", "unchecked");
      this.#change(session, "sent", "unchecked");
      this.#retry(session, historyRetry);
    }
    onChange(session);
    return checked === this.#checked && checked.has(session);
  }

  #change(session: string, from: Item["state"], to: Item["state"]): void {
    const { outbox } = this.#config;
    for (const i of outbox.list(session)) if (i.state === from) outbox.update(session, i.key, { state: to });
  }

  /** deliver sends one message and reports whether the next one may follow. */
  async #deliver(session: string, item: Item): Promise<boolean> {
    const { outbox, send, onAccepted, onChange } = this.#config;
    const tries = item.tries + 1;
    outbox.update(session, item.key, { state: "sent", tries, tried: true });
    onChange(session);
    try {
      await send(session, item);
      outbox.remove(session, item.key);
      onAccepted(session, item);
      onChange(session);
      return true;
    } catch (error) {
      if (error instanceof RequestError && error.failure.retryable) {
        // The agent will accept it later: it is answering something else, or starting.
        outbox.update(session, item.key, { state: "queued", tries: item.tries, tried: item.tried === true });
        this.#retry(session, error.failure.retryAfterMs ?? busyRetry);
      } else if (error instanceof RequestError) {
        const conflict = conflicts(error.failure);
        const reason = conflict ? conflictWords : error.failure.message;
        outbox.update(session, item.key, { state: "refused", reason, conflict, tried: item.tried === true });
      } else if (tries >= mostTries) {
        outbox.update(session, item.key, { state: "unconfirmed" });
      } else {
        this.#retry(session, lostRetry);
      }
      onChange(session);
      return error instanceof RequestError && !error.failure.retryable;
    }
  }

  #retry(session: string, after: number): void {
    clearTimeout(this.#retries.get(session));
    const ms = Math.min(Math.max(after, 250), 30_000);
    this.#retries.set(
      session,
      setTimeout(() => void this.flush(session), ms),
    );
  }
}

const conflicts = (f: Failure) => f.code === "INVALID_REQUEST" && f.message.includes("chat-request-conflict");
const conflictWords = "The agent has another message with the same key. Press Retry to send this one with a new key.";

const waitsForUser = (i: Item) => i.state === "unconfirmed" || i.state === "refused";

/**
 * alone runs f in one tab of this browser at a time. Where the browser has no locks, the idempotency key still
 * keeps a message from counting twice.
 */
async function alone(name: string, f: () => Promise<void>): Promise<void> {
  if (!("locks" in navigator)) return f();
  try {
    await navigator.locks.request(name, f);
  } catch {
    // The page is closing; the next one sends the rest.
  }
}
