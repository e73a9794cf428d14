import type { Item, Outbox } from "./outbox";
import { RequestError } from "./requests";

export interface DeliveryConfig {
  outbox: Outbox;
  isOpen: () => boolean;
  /** Sends one message; rejects as Requests.request does. */
  send: (session: string, item: Item) => Promise<unknown>;
  /** The agent accepted the message. */
  onAccepted: (session: string, item: Item) => void;
  /** The session's outbox changed. */
  onChange: (session: string) => void;
}

const mostTries = 3; // sends without an answer before the user is asked
const lostRetry = 5_000;
const busyRetry = 1_000;

/** Delivery sends the outbox's messages in order and retries. */
export class Delivery {
  readonly #config: DeliveryConfig;
  #retries = new Map<string, ReturnType<typeof setTimeout>>(); // by session

  constructor(config: DeliveryConfig) {
    this.#config = config;
  }

  /** pending reports whether a message waits to be sent, not for the user. */
  get pending(): boolean {
    const { outbox } = this.#config;
    return outbox.sessions().some((s) => !outbox.list(s).every(waitsForUser));
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
        if (!(await this.#deliver(session, item))) return;
      }
    });
  }

  stop(): void {
    for (const timer of this.#retries.values()) clearTimeout(timer);
    this.#retries.clear();
  }

  /** deliver sends one message and reports whether the next one may follow. */
  async #deliver(session: string, item: Item): Promise<boolean> {
    const { outbox, send, onAccepted, onChange } = this.#config;
    const tries = item.tries + 1;
    outbox.update(session, item.key, { state: "sent", tries });
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
        outbox.update(session, item.key, { state: "queued", tries: item.tries });
        this.#retry(session, error.failure.retryAfterMs ?? busyRetry);
      } else if (error instanceof RequestError) {
        outbox.update(session, item.key, { state: "refused", reason: error.failure.message });
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
