// An agent in place of the machine's: the test decides what it says and when.
import type { Page, WebSocketRoute } from "@playwright/test";
import { pageOf } from "../src/chat/testing";

type Request = { id: string; method: string; params: Record<string, unknown> };

export class Agent {
  #socket: WebSocketRoute | undefined;
  readonly sent: string[] = [];

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
    this.#say({ type: "res", id, ok: true, payload });
  }

  #say(frame: object) {
    this.#socket?.send(JSON.stringify(frame));
  }
}
