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

const conflictError = { code: "INVALID_REQUEST", message: "chat-request-conflict: the key is in use" };

type Request = { type: "req"; id: string; method: string; params: Record<string, unknown> };

/** A gateway, reached by sockets that can be cut. */
export class FakeGateway {
  sockets: FakeSocket[] = [];
  asked: { method: string; params: Record<string, unknown> }[] = [];
  taken: { key: string; text: string }[] = []; // chat.sends, each known key once
  #known = new Map<string, string>(); // texts by key
  #sessions: string[] = []; // of what was taken
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

  /** restart forgets the known keys, as the real gateway does; what was taken stays in the history. */
  restart() {
    this.#known.clear();
    this.socket.cut(1012);
  }

  handle(socket: FakeSocket, r: Request) {
    this.asked.push({ method: r.method, params: r.params });
    const refused = this.refuse[r.method];
    const conflict = r.method === "chat.send" && this.#known.get(String(r.params.idempotencyKey));
    if (typeof conflict === "string" && conflict !== r.params.message)
      return socket.hear({ type: "res", id: r.id, ok: false, error: conflictError });
    if (refused) return socket.hear({ type: "res", id: r.id, ok: false, error: refused });
    const payload = this.#perform(r);
    if (!this.silent.has(r.method)) socket.hear({ type: "res", id: r.id, ok: true, payload });
  }

  #perform(r: Request): unknown {
    const custom = this.answers[r.method];
    if (custom) return custom(r.params);
    if (r.method === "chat.history") {
      const its = this.taken.filter((_, i) => this.#sessions[i] === r.params.sessionKey);
      return { messages: its.map((t) => ({ role: "user", content: t.text, idempotencyKey: `${t.key}:user` })) };
    }
    if (r.method === "chat.send") {
      const key = String(r.params.idempotencyKey);
      if (this.#known.has(key)) return { runId: key, status: "ok" };
      this.#known.set(key, String(r.params.message));
      this.taken.push({ key, text: String(r.params.message) });
      this.#sessions.push(String(r.params.sessionKey));
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
