// A machine that can hold the agent's mouse and keyboard, in front of the real one, which does all else: the test decides
// what its agent does on the desktop.
import type { Page } from "@playwright/test";

type Request = { id: string; method: string; params: object };
type Told = { event: string; payload: object };

declare global {
  interface Window {
    gateAsked: (request: Request) => Promise<object | undefined>;
    gateHolder: () => Promise<Told>;
    gateTell: (frame: Told) => void;
  }
}

export class Gate {
  /** The requests about control, oldest first. */
  readonly asked: string[] = [];
  /** What was to be stopped. */
  readonly stopped: object[] = [];
  silent = false; // take and give change nothing and get no answer
  leased = true; // a take refuses the agent's use of the computer as a whole
  readonly #pages: Page[] = [];
  #control: object = { holder: "agent" };

  /** Stands before the machine of this page, once it is loaded again. All its pages have the same holder. */
  async before(page: Page): Promise<void> {
    this.#pages.push(page);
    await page.exposeFunction("gateAsked", (r: Request) => this.#answer(r));
    await page.exposeFunction("gateHolder", () => this.#event());
    await page.addInitScript(() => {
      let chat: WebSocket | undefined;
      const hear = (frame: object) =>
        chat?.dispatchEvent(new MessageEvent("message", { data: JSON.stringify({ type: "event", ...frame }) }));
      const greeted = () => void window.gateHolder().then(hear);
      window.gateTell = hear;
      // Not a subclass: noVNC looks for a socket's members on its very prototype.
      window.WebSocket = new Proxy(window.WebSocket, {
        construct(Native, [url, protocols]: [string, string[]]) {
          const socket = new Native(url, protocols);
          if (!url.endsWith("/cloudbot")) return socket;
          chat = socket;
          socket.addEventListener("message", () => setTimeout(greeted), { once: true });
          const send = socket.send.bind(socket);
          socket.send = (data: string) => {
            const r = JSON.parse(data) as Request;
            if (r.method === "chat.abort") void window.gateAsked(r);
            if (!r.method.startsWith("cloudbot.control.")) return send(data);
            return void window.gateAsked(r).then((payload) => {
              const answer = { type: "res", id: r.id, ok: true, payload };
              if (payload) socket.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(answer) }));
            });
          };
          return socket;
        },
      });
    });
  }

  /** The user holds mouse and keyboard for this long. */
  async hold(ms = 120_000) {
    const now = Date.now();
    await this.#changed({ holder: "user", since: now, until: now + ms, ...(this.leased && { leased: true }) });
  }

  /** The agent may use them. */
  async free() {
    await this.#changed({ holder: "agent" });
  }

  /** The agent uses the computer: phase start or end. */
  async act(phase: "start" | "end") {
    await this.#agent("item", { kind: "tool", name: "computer", phase, toolCallId: "c1", itemId: "tool:c1" });
  }

  /** The agent's run ends. */
  async end() {
    await this.#agent("lifecycle", { phase: "end" });
  }

  #agent(stream: string, data: object) {
    const payload = { runId: "elsewhere", sessionKey: "agent:main:main", stream, seq: 1, data };
    return this.#tell({ event: "agent", payload });
  }

  #event = (): Told => ({ event: "cloudbot.control", payload: this.#control });

  async #answer(r: Request): Promise<object | undefined> {
    if (r.method === "chat.abort") {
      this.stopped.push(r.params);
      return undefined;
    }
    this.asked.push(r.method);
    if (this.silent) return undefined;
    await (r.method.endsWith("take") ? this.hold() : this.free());
    return this.#control;
  }

  async #changed(control: object) {
    this.#control = control;
    await this.#tell(this.#event());
  }

  async #tell(frame: Told) {
    await Promise.all(this.#pages.map((p) => p.evaluate((f) => window.gateTell(f), frame)));
  }
}
