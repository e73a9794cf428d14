import { beforeEach, describe, expect, it, vi } from "vitest";

// The parts of noVNC that asking and answering need.
const wire = vi.hoisted(() => ({ sent: 0, pixels: 0, input: new Uint8Array() }));
vi.mock("@novnc/novnc", () => ({
  default: class {
    static messages = { fbUpdateRequest: () => wire.pixels++ };
    _supportsFence = true;
    _sock = {
      sQpush8() {},
      sQpush32() {},
      flush: () => wire.sent++,
      rQwait: (_: string, n: number) => wire.input.length < n,
      rQpeekBytes: (n: number) => wire.input.subarray(0, n),
      rQskipBytes() {},
    };
    _handleServerFenceMsg() {
      return true;
    }
  },
}));

import { Viewer } from "./viewer";

let channel: EventTarget;
let viewer: Viewer & { _supportsFence: boolean; _handleServerFenceMsg(): boolean };
const roundTrip = vi.fn();
const message = () => channel.dispatchEvent(new Event("message"));

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("performance", { now: () => Date.now() });
  Object.assign(wire, { sent: 0, pixels: 0, input: new Uint8Array() });
  channel = new EventTarget();
  viewer = new Viewer(undefined as never, channel as never, { frame() {}, size() {}, roundTrip, taken() {} }) as never;
});

describe("a silent line", () => {
  it("is detected by the time since the question", () => {
    vi.advanceTimersByTime(60_000);
    expect(viewer.unansweredMs).toBe(0); // it was not asked
    viewer.ask();
    vi.advanceTimersByTime(9_000);
    expect(viewer.unansweredMs).toBe(9_000);
  });

  it("is detected although something else arrived after the question", () => {
    viewer.ask();
    vi.advanceTimersByTime(500);
    message(); // an update of the screen that was under way
    for (let second = 0; second < 20; second++) {
      viewer.ask(); // the fence is still out
      vi.advanceTimersByTime(1_000);
    }
    expect(wire.sent).toBe(1);
    expect(viewer.unansweredMs).toBe(20_000);
  });

  it("is not detected if the answer arrives, or if a server without fences sends the requested update", () => {
    viewer.ask();
    vi.advanceTimersByTime(40);
    wire.input = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 2, 0x63, 0x62]);
    message();
    viewer._handleServerFenceMsg();
    vi.advanceTimersByTime(60_000);
    expect([roundTrip.mock.calls.at(-1), viewer.unansweredMs]).toEqual([[40], 0]);
    viewer._supportsFence = false;
    viewer.ask();
    vi.advanceTimersByTime(3_000);
    expect([wire.pixels, viewer.unansweredMs]).toEqual([1, 3_000]);
    message();
    expect(viewer.unansweredMs).toBe(0);
  });
});
