import type { Failure, Frame } from "./frames";

/** RequestError is the error with which the agent answered a request. */
export class RequestError extends Error {
  constructor(readonly failure: Failure) {
    super(failure.message);
    this.name = "RequestError";
  }
}

/** LostError means that no answer came: the request may have been carried out or not. */
export class LostError extends Error {
  constructor() {
    super("The connection was lost before the agent answered.");
    this.name = "LostError";
  }
}

interface Pending {
  method: string;
  params: object;
  repeatable: boolean;
  sent: boolean;
  timer: ReturnType<typeof setTimeout>;
  resolve: (payload: unknown) => void;
  reject: (error: Error) => void;
}

const answerWithin = 30_000;
const mostPending = 100;

/** Requests matches the agent's answers to requests. A request made without a connection waits for one. */
export class Requests {
  #pending = new Map<string, Pending>();
  #lastId = 0;
  #transmit: ((frame: string) => void) | undefined;

  /**
   * request resolves with the answer's payload. A repeatable request is sent again after a broken connection:
   * carrying it out twice changes nothing.
   */
  request(method: string, params: object, repeatable = false): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#pending.size >= mostPending) {
        reject(new Error("Too many requests are waiting for the agent. Try again later."));
        return;
      }
      const id = `w${++this.#lastId}`;
      const timer = setTimeout(() => this.#take(id)?.reject(new LostError()), answerWithin);
      this.#pending.set(id, { method, params, repeatable, sent: false, timer, resolve, reject });
      this.#sendUnsent();
    });
  }

  /** opened sends what waited for a connection; transmit sends one frame over it. */
  opened(transmit: (frame: string) => void): void {
    this.#transmit = transmit;
    this.#sendUnsent();
  }

  /** answered settles the request that the frame answers. */
  answered(f: Extract<Frame, { type: "res" }>): void {
    const p = this.#take(f.id);
    if (f.ok) p?.resolve(f.payload);
    else p?.reject(new RequestError(f.error));
  }

  /** lost rejects the requests under way that are not repeatable. */
  lost(): void {
    this.#transmit = undefined;
    for (const [id, p] of this.#pending) {
      if (p.repeatable) p.sent = false;
      else if (p.sent) this.#take(id)?.reject(new LostError());
    }
  }

  /** stop rejects all requests. */
  stop(): void {
    this.#transmit = undefined;
    for (const id of this.#pending.keys()) this.#take(id)?.reject(new LostError());
  }

  #take(id: string): Pending | undefined {
    const p = this.#pending.get(id);
    clearTimeout(p?.timer);
    this.#pending.delete(id);
    return p;
  }

  #sendUnsent(): void {
    if (!this.#transmit) return;
    for (const [id, p] of this.#pending) {
      if (p.sent) continue;
      p.sent = true;
      this.#transmit(JSON.stringify({ type: "req", id, method: p.method, params: p.params }));
    }
  }
}
