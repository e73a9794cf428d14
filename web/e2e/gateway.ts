// An agent in place of the machine's: the test decides what it says and when.
import type { Page, WebSocketRoute } from "@playwright/test";
import { pageOf } from "../src/chat/testing";

type Request = { id: string; method: string; params: Record<string, unknown> };

export class Agent {
  #socket: WebSocketRoute | undefined;
  readonly sent: string[] = [];
  /** Answers of the test's own, by method; undefined: a refusal. */
  readonly answers = new Map<string, (params: Record<string, unknown>) => object | undefined>();

  /** Answers on the page's chat, whose main session has this many messages. */
  static async of(page: Page, messages: number): Promise<Agent> {
    const agent = new Agent();
    await page.routeWebSocket(/\/cloudbot$/, (socket) => {
      agent.#socket = socket;
      socket.onMessage((text) => agent.#answer(JSON.parse(String(text)) as Request, messages));
      agent.#say({
        type: "res",
        id: "c",
        ok: true,
        payload: { type: "hello-ok", snapshot: { sessionDefaults: { mainSessionKey: "agent:main:main" } } },
      });
    });
    return agent;
  }

  chat(state: string, seq: number, more: object = {}) {
    this.#say({
      type: "event",
      event: "chat",
      payload: { runId: "run", sessionKey: "agent:main:main", seq, state, ...more },
    });
  }

  #answer({ id, method, params }: Request, messages: number) {
    if (method === "chat.send") this.sent.push(String(params.message));
    const payload =
      method === "chat.history"
        ? pageOf(messages, Number(params.offset ?? 0))
        : method === "chat.send"
          ? { runId: params.idempotencyKey, status: "started" }
          : {};
    const custom = this.answers.get(method);
    const own = custom?.(params);
    if (custom && !own)
      this.#say({ type: "res", id, ok: false, error: { code: "INVALID_REQUEST", message: "artifact not found" } });
    else this.#say({ type: "res", id, ok: true, payload: own ?? payload });
  }

  /** Sends that a tool ended. */
  used(call: string, seq: number, content: object[]) {
    this.#say({
      type: "event",
      event: "agent",
      payload: {
        runId: "run",
        sessionKey: "agent:main:main",
        seq,
        stream: "tool",
        data: { phase: "result", name: "computer", toolCallId: call, result: { content } },
      },
    });
  }

  #say(frame: object) {
    this.#socket?.send(JSON.stringify(frame));
  }
}
