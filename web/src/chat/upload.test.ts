import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiError } from "@/api/client";
import type { Attached } from "./files";
import { LostError, RequestError } from "./requests";
import { FakeGateway, FakeSocket } from "./testing";
import { upload } from "./upload";

const file: Attached = {
  name: "notes.txt",
  type: "text/plain",
  bytes: 5,
  blob: new Blob(["hello"]),
  origin: "file",
};
const address = { url: "ws://test", protocols: [] };

/** The browser's end: bytes leave it as the test says. */
class Socket extends FakeSocket {
  bufferedAmount = 0;
  override send(text: string) {
    this.bufferedAmount = text.length;
    super.send(text);
  }
}

class Reader extends EventTarget {
  result = "";
  error: unknown = null;
  async readAsDataURL(blob: Blob) {
    try {
      this.result = `data:text/plain;base64,${Buffer.from(await blob.arrayBuffer()).toString("base64")}`;
      this.dispatchEvent(new Event("load"));
    } catch (error) {
      this.error = error;
      this.dispatchEvent(new Event("error"));
    }
  }
}

let gateway: FakeGateway;
let made: Socket[];
beforeEach(() => {
  vi.useFakeTimers();
  gateway = new FakeGateway();
  made = [];
  vi.stubGlobal("FileReader", Reader);
  vi.stubGlobal(
    "WebSocket",
    class extends Socket {
      constructor() {
        super(gateway);
        made.push(this);
      }
    },
  );
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function begin(signal = new AbortController().signal, files = [file]) {
  const parts: number[] = [];
  const sent = upload({
    open: () => Promise.resolve(address),
    params: { sessionKey: "main", message: "x", idempotencyKey: "k" },
    files,
    onProgress: (p) => parts.push(p),
    signal,
  });
  const outcome = sent.then(
    (v) => v,
    (e: unknown) => e,
  );
  return { outcome, parts };
}

test("a message goes over a connection of its own, with its files in base64", async () => {
  gateway.silent.add("chat.send");
  const { outcome, parts } = begin();
  await vi.waitFor(() => expect(made).toHaveLength(1));
  gateway.hello();
  await vi.waitFor(() => expect(gateway.count("chat.send")).toBe(1));
  expect(gateway.asked[0]!.params).toEqual({
    sessionKey: "main",
    message: "x",
    idempotencyKey: "k",
    attachments: [
      { type: "file", mimeType: "text/plain", fileName: "notes.txt", origin: "file", content: btoa("hello") },
    ],
  });
  const whole = made[0]!.bufferedAmount;
  made[0]!.bufferedAmount = whole / 2;
  await vi.advanceTimersByTimeAsync(300);
  made[0]!.bufferedAmount = 0;
  await vi.advanceTimersByTimeAsync(300);
  expect(parts.at(-1)).toBe(1);
  expect(parts.some((p) => p > 0.4 && p < 0.6)).toBe(true);
  made[0]!.hear({ type: "res", id: "file", ok: true, payload: { runId: "k", status: "started" } });
  expect(await outcome).toEqual({ runId: "k", status: "started" });
  expect(made[0]!.open).toBe(false);
});

test("says why a message was not accepted, and whether to try again", async () => {
  const cases: [number, boolean | undefined][] = [
    [1008, false],
    [1009, false],
    [1013, true],
    [1006, undefined],
  ];
  for (const [code, again] of cases) {
    const { outcome } = begin();
    const n = made.length;
    await vi.waitFor(() => expect(made).toHaveLength(n + 1));
    gateway.silent.add("chat.send");
    gateway.hello();
    made.at(-1)!.cut(code);
    const error = await outcome;
    if (again === undefined) expect(error, String(code)).toBeInstanceOf(LostError);
    else expect((error as RequestError).failure.retryable, String(code)).toBe(again);
  }
  gateway.silent.clear();
  gateway.refuse["chat.send"] = { code: "INVALID_REQUEST", message: "image exceeds size limit" };
  const { outcome } = begin();
  await vi.waitFor(() => expect(made).toHaveLength(5));
  gateway.hello();
  expect(((await outcome) as RequestError).failure.message).toBe("image exceeds size limit");
});

test("a full machine is tried again, a file that is gone is not sent", async () => {
  const busy = await upload({
    open: () => Promise.reject(new ApiError(429, "too_many_sessions", "Too many.")),
    params: {},
    files: [file],
    onProgress: () => undefined,
    signal: new AbortController().signal,
  }).catch((e: unknown) => e);
  expect((busy as RequestError).failure.retryable).toBe(true);
  const gone = { ...file, blob: {} as Blob };
  const error = (await begin(undefined, [gone]).outcome) as RequestError;
  expect([error.failure.retryable, error.message]).toEqual([false, expect.stringContaining("can't be read")]);
  expect(made).toHaveLength(0);
});

test("cancelling and standing still end the connection", async () => {
  gateway.silent.add("chat.send");
  const stop = new AbortController();
  const first = begin(stop.signal);
  await vi.waitFor(() => expect(made).toHaveLength(1));
  stop.abort();
  expect(await first.outcome).toBeInstanceOf(LostError);
  const second = begin();
  await vi.waitFor(() => expect(made).toHaveLength(2));
  gateway.hello();
  await vi.advanceTimersByTimeAsync(70_000);
  expect(await second.outcome).toBeInstanceOf(LostError);
  expect(made.every((s) => !s.open)).toBe(true);
});
