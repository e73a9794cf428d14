// Small working replacements for the browser and the machine in the chat's tests.

export class MemoryStorage implements Storage {
  #m = new Map<string, string>();
  full = false;
  get length() {
    return this.#m.size;
  }
  key(i: number) {
    return [...this.#m.keys()][i] ?? null;
  }
  getItem(k: string) {
    return this.#m.get(k) ?? null;
  }
  setItem(k: string, v: string) {
    if (this.full) throw new Error("QuotaExceededError");
    this.#m.set(k, v);
  }
  removeItem(k: string) {
    this.#m.delete(k);
  }
  clear() {
    this.#m.clear();
  }
}

/** Returns the nth message of a long chat as a machine stores it. The number shows the order. */
export const said = (n: number) => ({
  role: n % 2 ? "assistant" : "user",
  content: `${n}`,
  __openclaw: { id: `e${n}` },
});

/** Returns what chat.history answers for a chat with this many messages. Pages are counted from the newest message. */
export function pageOf(total: number, offset = 0, limit = 100) {
  const end = Math.max(0, total - offset),
    from = Math.max(0, end - limit);
  return {
    messages: Array.from({ length: end - from }, (_, i) => said(from + i)),
    ...(from > 0 && { hasMore: true, nextOffset: offset + limit }),
  };
}

type Request = { type: "req"; id: string; method: string; params: Record<string, unknown> };

/** A gateway with one session, reached by sockets that can be cut. */
export class FakeGateway {
  sockets: FakeSocket[] = [];
  asked: { method: string; params: Record<string, unknown> }[] = [];
  taken: { key: string; text: string }[] = []; // chat.sends, each key once
  silent = new Set<string>(); // methods that are carried out but not answered
  answers: Record<string, (params: Record<string, unknown>) => unknown> = {};
  refuse: Record<string, object | undefined> = {};

  get socket() {
    return this.sockets.at(-1)!;
  }
  count(method: string) {
    return this.asked.filter((a) => a.method === method).length;
  }
  event(event: string, payload: object) {
    this.socket.hear({ type: "event", event, payload });
  }

  hello() {
    this.socket.hear({
      type: "res",
      id: "cloudbot-connect",
      ok: true,
      payload: {
        type: "hello-ok",
        snapshot: { sessionDefaults: { mainSessionKey: "agent:main:main" } },
        policy: { tickIntervalMs: 30_000 },
      },
    });
  }

  handle(socket: FakeSocket, r: Request) {
    this.asked.push({ method: r.method, params: r.params });
    const refused = this.refuse[r.method];
    if (refused) return socket.hear({ type: "res", id: r.id, ok: false, error: refused });
    const payload = this.#perform(r);
    if (!this.silent.has(r.method)) socket.hear({ type: "res", id: r.id, ok: true, payload });
  }

  #perform(r: Request): unknown {
    const custom = this.answers[r.method];
    if (custom) return custom(r.params);
    if (r.method === "chat.history") {
      return { messages: this.taken.map((t) => ({ role: "user", content: t.text, idempotencyKey: `${t.key}:user` })) };
    }
    if (r.method === "chat.send") {
      const key = String(r.params.idempotencyKey);
      if (this.taken.some((t) => t.key === key)) return { runId: key, status: "ok" };
      this.taken.push({ key, text: String(r.params.message) });
      return { runId: key, status: "started" };
    }
    return {};
  }
}

export class FakeSocket extends EventTarget {
  open = true;
  readonly #gateway: FakeGateway;

  constructor(gateway: FakeGateway) {
    super();
    this.#gateway = gateway;
    gateway.sockets.push(this);
  }
  send(text: string) {
    if (this.open) queueMicrotask(() => this.open && this.#gateway.handle(this, JSON.parse(text) as Request));
  }
  hear(frame: object) {
    if (this.open) this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(frame) }));
  }
  close() {
    this.cut(1000);
  }
  cut(code: number, reason = "") {
    if (!this.open) return;
    this.open = false;
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason }));
  }
}
