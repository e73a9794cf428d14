// One connection of the chat: its frames, and the watch over a line that has become silent.
import type { BridgeAddress } from "@/api/bridge";
import { reportClosed, type Reconnect } from "@/bridge/reconnect";
import { parseFrame, type Frame } from "./frames";

type Hears = {
  link: Reconnect;
  heard: () => void; // anything came
  frame: (f: Frame, transmit: (text: string) => void) => void;
};

/** carry opens the socket and reports what it hears until the signal ends it. */
export function carry(address: BridgeAddress, generation: number, signal: AbortSignal, on: Hears): void {
  const socket = new WebSocket(address.url, address.protocols);
  signal.addEventListener("abort", () => socket.close());
  socket.addEventListener("message", (e: MessageEvent<unknown>) => {
    if (signal.aborted) return;
    on.heard();
    const frame = parseFrame(e.data);
    if (frame) on.frame(frame, (text) => socket.send(text));
  });
  let opened = false;
  socket.addEventListener("open", () => (opened = true));
  socket.addEventListener("close", (e) =>
    reportClosed((event) => on.link.send(event), generation, e, opened, address.whyNot, signal),
  );
}

/** Quiet detects a connection that is dead but not closed: the agent is never silent for long. */
export class Quiet {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #most = 75_000; // two and a half ticks
  readonly #link: Reconnect;

  constructor(link: Reconnect) {
    this.#link = link;
  }

  /** tick sets how often the agent says that it is there; default 30 s. */
  tick(ms = 30_000): void {
    this.#most = Math.min(Math.max(ms, 1_000), 120_000) * 2.5;
  }

  heard(generation: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => this.#link.send({ type: "closed", generation, code: 1006, reason: "silent" }),
      this.#most,
    );
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
