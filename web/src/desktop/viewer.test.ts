import { beforeEach, describe, expect, it, vi } from "vitest";

// The parts of noVNC that asking and answering need.
const wire = vi.hoisted(() => ({
  sent: 0,
  pixels: 0,
  input: new Uint8Array(),
  whole: false,
  encodings: [] as number[],
  texts: [] as string[],
}));
vi.mock("@novnc/novnc", () => ({
  default: class {
    static messages = {
      fbUpdateRequest: () => wire.pixels++,
      extendedClipboardProvide: (_: unknown, formats: number[], texts: string[]) =>
        wire.texts.push(`${formats}:${texts}`),
      clientEncodings: (_: unknown, all: number[]) => (wire.encodings = all),
    };
    _rfbConnectionState = "connected";
    _qualityLevel = 6;
    _compressionLevel = 2;
    _clipboardServerCapabilitiesFormats = {};
    _clipboardServerCapabilitiesActions = {};
    clipboardPasteFrom(text: string) {
      wire.texts.push(text);
    }
    _sendEncodings() {
      (this.constructor as typeof Viewer).messages.clientEncodings(this._sock as never, [
        -32 + this._qualityLevel,
        -256 + this._compressionLevel,
      ]);
    }
    _framebufferUpdate() {
      return wire.whole;
    }
    _screenSize() {
      return { w: 825.5, h: 755.98 };
    }
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
let viewer: Viewer & {
  _supportsFence: boolean;
  _handleServerFenceMsg(): boolean;
  _framebufferUpdate(): boolean;
  _screenSize(): { w: number; h: number };
};
const frame = vi.fn();
const roundTrip = vi.fn();
const message = (data = new ArrayBuffer(0)) => channel.dispatchEvent(Object.assign(new Event("message"), { data }));

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("performance", { now: () => Date.now() });
  Object.assign(wire, { sent: 0, pixels: 0, input: new Uint8Array(), whole: false, encodings: [], texts: [] });
  channel = new EventTarget();
  viewer = new Viewer(undefined as never, channel as never, { frame, size() {}, roundTrip, taken() {} }) as never;
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

it("measures a frame by what arrives after its first message", () => {
  message(new ArrayBuffer(5_000));
  viewer._framebufferUpdate();
  vi.advanceTimersByTime(100);
  message(new ArrayBuffer(30_000));
  wire.whole = true;
  viewer._framebufferUpdate();
  expect(frame).toHaveBeenLastCalledWith({ ms: 100, bytes: 30_000 });
  message(new ArrayBuffer(40_000));
  viewer._framebufferUpdate();
  expect(frame).toHaveBeenLastCalledWith({ ms: 0, bytes: 0 });
});

// Xvnc sends pictures of levels below 9 a second time.
it("asks for less detail by the quality of JPEG, under the level that is perfect", () => {
  viewer.setDetail({ compression: 8, quality: 29, colours: 4 });
  expect(wire.encodings).toEqual([-32 + 9, -256 + 8, -512 + 29, -767]);
  viewer.setDetail({ compression: 1, quality: 100, colours: 1 });
  expect(wire.encodings).toEqual([-32 + 9, -256 + 1, -512 + 100, -768]);
});

it.each([
  { server: "TigerVNC", actions: [24, 25, 26, 27, 28], unicode: true, sent: "größer →" },
  { server: "x11vnc alone", actions: [24, 25, 26, 28], unicode: false, sent: "größer →" },
  { server: "x11vnc and the guest", actions: [24, 28], unicode: true, sent: "1:größer →" },
])("pastes as the machine takes it: $server", ({ actions, unicode, sent }) => {
  Object.assign(viewer, {
    _clipboardServerCapabilitiesFormats: { 1: true },
    _clipboardServerCapabilitiesActions: Object.fromEntries(actions.map((bit) => [1 << bit, true])),
  });
  expect(viewer.takesUnicode).toBe(unicode);
  viewer.clipboardPasteFrom("größer →");
  expect(wire.texts).toEqual([sent]);
});

describe("the size", () => {
  // noVNC compares it with the remote screen's, and requests it until both are equal.
  it("is in whole pixels", () => {
    expect(viewer._screenSize()).toEqual({ w: 825, h: 755 });
  });
});
