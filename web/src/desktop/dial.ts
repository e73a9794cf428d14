import { openBridge } from "@/api/bridge";
import { refusal, reportClosed, type Event } from "@/bridge/reconnect";
import type { Detail, Frame } from "./quality";
import type { Mode } from "./snapshot";
import type { SizeFrom, Viewer, ViewerEvents } from "./viewer";

type ViewerModule = { Viewer: new (target: HTMLElement, channel: WebSocket, events: ViewerEvents) => Viewer };

/** What a test replaces. */
export interface DesktopParts {
  open: typeof openBridge;
  load: () => Promise<ViewerModule>;
  socket: (url: string, protocols: string[]) => WebSocket;
}

export const browserParts: DesktopParts = {
  open: openBridge,
  load: () => import("./viewer"),
  socket: (url, protocols) => new WebSocket(url, protocols),
};

export interface Attempt {
  instance: string;
  mode: Mode;
  stage: HTMLElement;
  /** Of the first picture. */
  detail: Detail;
  generation: number;
  /** Aborted when the attempt, or the connection that it became, is over. */
  signal: AbortSignal;
  send: (e: Event) => void;
}

/** What a viewer reports, and which viewer it was. */
export interface AttemptEvents {
  connected(viewer: Viewer): void;
  over(viewer: Viewer): void;
  frame(viewer: Viewer, frame: Frame): void;
  size(viewer: Viewer, from: SizeFrom): void;
  roundTrip(ms: number): void;
  /** The desktop fetched the text that it was offered. */
  taken(): void;
  title(name: string): void;
  /** A program on the desktop copied a text. */
  copied(text: string): void;
}

/** dial makes one attempt to connect: it gets a ticket, opens the socket and puts a viewer on it. */
export async function dial(parts: DesktopParts, a: Attempt, on: AttemptEvents): Promise<void> {
  const { mode, generation, signal, send } = a;
  try {
    const [{ Viewer }, address] = await Promise.all([parts.load(), parts.open(a.instance, "vnc", mode, signal)]);
    if (signal.aborted) return;
    const socket = parts.socket(address.url, address.protocols);
    let opened = false;
    let closed = false;
    let disconnected = false;
    let made: Viewer | undefined; // noVNC refuses a socket that is already closed
    socket.addEventListener("open", () => (opened = true), { once: true });
    // Registered before noVNC's own listener, which loses the close code.
    socket.addEventListener(
      "close",
      (e) => {
        closed = true;
        // The reason may have to be asked for first, and noVNC would complain meanwhile.
        if (!opened && !disconnected) made?.disconnect();
        reportClosed(send, generation, e, opened, address.whyNot, signal);
      },
      { once: true },
    );
    const viewer: Viewer = new Viewer(a.stage, socket, {
      frame: (frame) => on.frame(viewer, frame),
      size: (from) => on.size(viewer, from),
      roundTrip: on.roundTrip,
      taken: on.taken,
    });
    made = viewer;
    viewer.setDetail(a.detail);
    viewer.viewOnly = mode === "view";
    viewer.background = "transparent";
    viewer.showDotCursor = true;
    viewer.addEventListener("connect", () => {
      if (!signal.aborted) on.connected(viewer);
    });
    viewer.addEventListener("disconnect", () => {
      disconnected = true;
      // A protocol error disconnects without closing the socket.
      if (!closed) send({ type: "closed", generation, code: 1006, reason: "" });
    });
    viewer.addEventListener("desktopname", (e) => on.title(e.detail.name));
    viewer.addEventListener("clipboard", (e) => {
      if (mode === "control") on.copied(e.detail.text);
    });
    signal.addEventListener(
      "abort",
      () => {
        on.over(viewer);
        if (!disconnected) viewer.disconnect();
      },
      { once: true },
    );
  } catch (error) {
    send({ type: "failed", generation, error: refusal(error) });
  }
}
