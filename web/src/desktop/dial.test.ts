import { expect, test } from "vitest";
import type { Event } from "@/bridge/reconnect";
import { levels } from "./quality";
import { dial, type AttemptEvents, type DesktopParts } from "./dial";

// noVNC's constructor throws if the socket has closed before.
function Refusing() {
  throw new Error("Cannot use already closed WebSocket/RTCDataChannel");
}

test("a socket that closes before its viewer exists is a failed attempt, and its close event is no error", async () => {
  const socket = new EventTarget();
  const parts = {
    open: () => Promise.resolve({ url: "ws://x", protocols: [], whyNot: undefined }),
    socket: () => socket,
    load: () =>
      Promise.resolve({
        Viewer: Refusing,
      }),
  } as unknown as DesktopParts;
  const sent: Event[] = [];
  const attempt = {
    instance: "i",
    mode: "control",
    stage: {} as HTMLElement,
    detail: levels[0]!,
    generation: 3,
  } as const;
  await dial(
    parts,
    { ...attempt, signal: new AbortController().signal, send: (e) => sent.push(e) },
    {} as AttemptEvents,
  );
  const errors: unknown[] = [];
  const complain = (e: unknown) => errors.push(e);
  process.once("uncaughtException", complain);
  socket.dispatchEvent(Object.assign(new globalThis.Event("close"), { code: 1006, reason: "" }));
  await new Promise((done) => setTimeout(done));
  process.off("uncaughtException", complain);
  expect(errors).toEqual([]);
  expect(sent).toMatchObject([
    { type: "failed", generation: 3 },
    { type: "closed", generation: 3, code: 1006 },
  ]);
});
