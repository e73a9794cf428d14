import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Desktop as DesktopType } from "./Desktop";
import { levels, type Detail } from "./quality";
import type { SizeFrom, ViewerEvents } from "./viewer";

// The parts of a browser that Desktop uses.
class FakeElement extends EventTarget {
  style: Record<string, string> = {};
  children: FakeElement[] = [];
  parentElement: FakeElement | null = null;
  hidden = false;
  className = "";
  tabIndex = -1;
  width = 1280;
  height = 800;
  value = "";
  selectionStart = 0;
  setAttribute() {}
  setSelectionRange() {}
  getBoundingClientRect() {
    return { left: 0, top: 0 };
  }
  focus() {}
  blur() {}
  append(...all: FakeElement[]) {
    for (const e of all) {
      e.remove();
      e.parentElement = this;
      this.children.push(e);
    }
  }
  remove() {
    this.parentElement?.children.splice(this.parentElement.children.indexOf(this), 1);
    this.parentElement = null;
  }
  getContext() {
    return { drawImage() {} };
  }
}

class FakeSocket extends EventTarget {}

class FakeViewer {
  static all: FakeViewer[] = [];
  canvas = new FakeElement();
  width = 1280;
  height = 800;
  takesSize = true;
  takesUnicode = true;
  viewOnly = false;
  scaleViewport = false;
  resizeSession = false;
  detail: Detail | undefined;
  refreshed = 0;
  disconnected = false;
  unansweredMs = 0;
  sent: string[] = [];
  #listeners = new Map<string, (e: unknown) => void>();
  constructor(
    _: unknown,
    readonly socket: FakeSocket,
    readonly events: ViewerEvents,
  ) {
    FakeViewer.all.push(this);
  }
  addEventListener(type: string, f: (e: unknown) => void) {
    this.#listeners.set(type, f);
  }
  emit(type: string, detail: object = {}) {
    this.#listeners.get(type)?.({ detail });
  }
  disconnect() {
    this.disconnected = true;
  }
  sendKey(keysym: number, _: string, down?: boolean) {
    this.sent.push(`${down === undefined ? "" : down ? "+" : "-"}${keysym.toString(16)}`);
  }
  clipboardPasteFrom(text: string) {
    this.sent.push(text);
  }
  setDetail(detail: Detail) {
    this.detail = detail;
  }
  refresh() {
    this.refreshed++;
  }
  claimSize(why: string) {
    this.sent.push(why);
  }
  giveUpSize(why: string) {
    this.sent.push(why);
  }
  releaseKeys() {}
  takeKeys() {}
  releaseLost() {}
  ask() {}
  focus() {}
  blur() {}
}

let desktop: DesktopType;
let tickets: string[];
const viewer = () => FakeViewer.all.at(-1)!;
const settle = () => vi.advanceTimersByTimeAsync(0);

beforeEach(async () => {
  vi.useFakeTimers();
  const page = Object.assign(new EventTarget(), {
    createElement: () => new FakeElement(),
    hasFocus: () => true,
    visibilityState: "visible",
    body: new FakeElement(),
  });
  vi.stubGlobal("document", page);
  vi.stubGlobal("window", new EventTarget());
  vi.stubGlobal("navigator", { platform: "Linux", onLine: true });
  vi.stubGlobal("matchMedia", () => ({ matches: false }));
  vi.stubGlobal("localStorage", { getItem: () => null, setItem: () => {} });
  vi.stubGlobal("location", { origin: "http://here" });
  vi.doMock("@/api/bridge", () => ({ openBridge: () => Promise.reject(new Error("unused")) }));
  FakeViewer.all = [];
  tickets = [];
  const { Desktop } = await import("./Desktop");
  desktop = new Desktop("i1", {
    open: async (_, kind, mode) => {
      tickets.push(`${kind} ${mode}`);
      return { url: "ws://here", protocols: ["binary"] };
    },
    load: async () => ({ Viewer: FakeViewer }) as never,
    socket: () => new FakeSocket() as never,
  });
});

afterEach(() => {
  desktop.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function opened() {
  desktop.setUp(true);
  await settle();
  viewer().emit("connect");
  viewer().events.frame({ ms: 10, bytes: 1_000 });
}

/** Opens it in Fit, which asks for no size. */
async function openedInFit() {
  desktop.setScale("fit");
  await opened();
}

const close = (v: FakeViewer, code: number) =>
  v.socket.dispatchEvent(Object.assign(new Event("close"), { code, reason: "" }));

function resized(from: SizeFrom, width = 1280) {
  viewer().width = width;
  viewer().events.size(from);
}

const letter = (code: string) => (/^Key(.)$/.exec(code)?.[1] ?? code).toLowerCase();
const noModifiers = { ctrlKey: false, altKey: false, shiftKey: false, metaKey: false };
const key = (type: string, code: string, more = {}) =>
  desktop.element.dispatchEvent(Object.assign(new Event(type), { code, key: letter(code), ...noModifiers, ...more }));
const paste = (text: string) =>
  document.dispatchEvent(Object.assign(new Event("paste"), { clipboardData: { getData: () => text } }));

describe("the connection", () => {
  it("keeps the last frame, reconnects with a new ticket, and shows the new picture", async () => {
    await opened();
    expect(desktop.getSnapshot()).toMatchObject({ painted: true, still: false, link: { at: "open" } });
    const first = viewer();
    close(first, 1006);
    expect(desktop.getSnapshot()).toMatchObject({ painted: false, still: true, link: { at: "waiting", why: "lost" } });
    expect(first.disconnected).toBe(true);
    await vi.advanceTimersByTimeAsync(1000);
    expect(tickets).toEqual(["vnc control", "vnc control"]);
    viewer().emit("connect");
    expect(desktop.getSnapshot()).toMatchObject({ painted: false, still: true });
    viewer().events.frame({ ms: 10, bytes: 1_000 });
    expect(desktop.getSnapshot()).toMatchObject({ painted: true, still: false });
  });

  it("restores the focus, unless the user has moved it meanwhile", async () => {
    await opened();
    for (const [at, again] of [
      [{ contains: () => true }, 1],
      [{ contains: () => false }, 0],
    ] as const) {
      desktop.element.dispatchEvent(new Event("focusin"));
      close(viewer(), 1006);
      Object.assign(document, { activeElement: at });
      await vi.advanceTimersByTimeAsync(1000);
      const focus = vi.spyOn(viewer(), "focus");
      viewer().emit("connect");
      expect(focus).toHaveBeenCalledTimes(again);
      viewer().events.frame({ ms: 10, bytes: 1_000 });
    }
  });

  it("ends permanently when the server ends it", async () => {
    await opened();
    close(viewer(), 4401);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(desktop.getSnapshot().link).toMatchObject({ at: "ended", reason: "signed_out" });
    expect(tickets).toHaveLength(1);
  });

  it("is given up when no data arrives, although its socket reports nothing", async () => {
    await opened();
    viewer().unansweredMs = 14_999;
    await vi.advanceTimersByTimeAsync(1000);
    expect(desktop.getSnapshot().link.at).toBe("open");
    viewer().unansweredMs = 15_000;
    const dead = viewer();
    await vi.advanceTimersByTimeAsync(1000);
    expect([dead.disconnected, desktop.getSnapshot().still, desktop.getSnapshot().link.at]).toEqual([
      true,
      true,
      "waiting",
    ]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(tickets).toHaveLength(2);
  });

  it("ignores a viewer that is not the current one", async () => {
    await opened();
    const old = viewer();
    desktop.setMode("view");
    await settle();
    viewer().emit("connect");
    old.emit("connect");
    old.events.frame({ ms: 10, bytes: 1_000 });
    close(old, 4404);
    expect(desktop.getSnapshot()).toMatchObject({ painted: false, link: { at: "open" } });
  });

  it("asks for another ticket to change what it may do", async () => {
    await opened();
    desktop.setMode("view");
    await settle();
    expect(tickets).toEqual(["vnc control", "vnc view"]);
    expect(viewer().viewOnly).toBe(true);
  });

  it("stays open while its element moves", async () => {
    await opened();
    const a = new FakeElement() as never,
      b = new FakeElement() as never;
    desktop.attach(a);
    desktop.attach(b);
    desktop.detach(a);
    expect(desktop.element.parentElement).toBe(b);
    desktop.detach(b);
    expect([desktop.element.parentElement, viewer().disconnected, tickets.length]).toEqual([null, false, 1]);
  });

  it("disconnects when the machine stops, and connects when it runs again", async () => {
    await opened();
    desktop.setUp(false);
    expect(desktop.getSnapshot()).toMatchObject({ link: { at: "idle" }, still: true });
    desktop.setUp(true);
    await settle();
    expect(tickets).toHaveLength(2);
  });
});

const asked = () => viewer().sent;

describe("the size", () => {
  it("is asked for by a new viewer, and by the user who works after another got it", async () => {
    await opened();
    expect(asked()).toEqual(["arrives"]);
    resized("server");
    expect(viewer()).toMatchObject({ resizeSession: false, scaleViewport: true });
    resized("me", 900);
    expect(viewer()).toMatchObject({ resizeSession: true, scaleViewport: false });
    desktop.element.dispatchEvent(new Event("pointerdown"));
    expect(asked()).toEqual(["arrives"]);
    resized("other", 700);
    expect(viewer()).toMatchObject({ resizeSession: false, scaleViewport: true });
    desktop.element.dispatchEvent(new Event("pointerdown"));
    expect(asked()).toEqual(["arrives", "works"]);
    resized("me", 900);
    expect(viewer().resizeSession).toBe(true);
  });
  it("is asked for again after a broken connection, if the viewer had it", async () => {
    await opened();
    for (const [from, why] of [
      ["me", "returns"],
      ["other", "arrives"],
    ] as const) {
      resized(from);
      close(viewer(), 1006);
      await vi.advanceTimersByTimeAsync(1000);
      viewer().emit("connect");
      expect([asked(), viewer().resizeSession]).toEqual([[why], false]);
      viewer().events.frame({ ms: 10, bytes: 1_000 });
    }
  });
  it("is given up by another mode than Match, and reset for all", async () => {
    await opened();
    resized("me", 900);
    desktop.setScale("actual");
    expect(asked()).toEqual(["arrives", "leaves"]);
    desktop.setScale("fit");
    expect(viewer()).toMatchObject({ resizeSession: false, scaleViewport: true });
    desktop.setScale("match");
    resized("me", 900);
    desktop.resetSize();
    expect(asked().slice(2)).toEqual(["works", "resets"]);
    expect(desktop.getSnapshot()).toMatchObject({ scale: "fit", decides: false });
    expect(viewer()).toMatchObject({ resizeSession: false, scaleViewport: true });
  });
  it("is the server's if the server refuses", async () => {
    await opened();
    resized("refused");
    expect(desktop.getSnapshot()).toMatchObject({ scale: "fit", takesSize: false });
    expect(viewer()).toMatchObject({ resizeSession: false, scaleViewport: true });
  });
  it("is never asked for in view only", async () => {
    desktop.setMode("view");
    await opened();
    resized("server");
    desktop.setScale("match");
    expect(asked()).toEqual([]);
    expect(viewer().resizeSession).toBe(false);
  });
});

describe("keys", () => {
  it("paste only after the desktop fetched the text, or had time to", async () => {
    await openedInFit();
    desktop.element.dispatchEvent(new Event("focusin"));
    key("keydown", "KeyV", { ctrlKey: true });
    paste("text");
    expect(viewer().sent).toEqual(["text"]);
    viewer().events.taken();
    expect(viewer().sent).toEqual(["text", "76"]);
    key("keydown", "KeyV", { ctrlKey: true });
    paste("more");
    await vi.advanceTimersByTimeAsync(99);
    expect(viewer().sent).toHaveLength(3);
    await vi.advanceTimersByTimeAsync(1);
    expect(viewer().sent.slice(2)).toEqual(["more", "76"]);
  });

  it("do not paste the previous text when the new one is too long", async () => {
    await openedInFit();
    desktop.element.dispatchEvent(new Event("focusin"));
    desktop.clipboard.send("before");
    key("keydown", "KeyV", { ctrlKey: true });
    paste("x".repeat((1 << 20) + 1));
    paste("x".repeat((1 << 20) + 1)); // from the browser's menu
    await vi.advanceTimersByTimeAsync(1000);
    expect(viewer().sent).toEqual(["before"]);
    expect(desktop.getSnapshot().clipboard.problem).toEqual({ kind: "long", from: "here" });
  });

  it("never overtake each other", async () => {
    await openedInFit();
    desktop.element.dispatchEvent(new Event("focusin"));
    key("keydown", "KeyV", { ctrlKey: true });
    paste("text");
    key("keyup", "ControlLeft");
    expect(viewer().sent).toEqual(["text", "76"]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(viewer().sent).toHaveLength(2);
  });

  it("are released when the page loses the focus", async () => {
    await openedInFit();
    const { Control } = await import("./keys");
    desktop.keyboard.hold(Control, true);
    window.dispatchEvent(new Event("blur"));
    expect(viewer().sent).toEqual(["+ffe3", "-ffe3"]);
    expect(desktop.getSnapshot().held).toEqual([]);
  });

  it("lead out of the desktop", async () => {
    await openedInFit();
    const left = vi.fn();
    desktop.onLeave(left);
    for (const c of ["ControlLeft", "AltLeft", "ShiftLeft"]) key("keydown", c);
    key("keyup", "ShiftLeft");
    expect(left).toHaveBeenCalledOnce();
  });
});

it("asks for less detail if frames are slow, and for what the user chose", async () => {
  await openedInFit();
  expect(viewer().detail).toBe(levels[2]);
  for (let second = 0; second < 2; second++) {
    viewer().events.frame({ ms: 900, bytes: 1_000 });
    await vi.advanceTimersByTimeAsync(1000);
  }
  expect([viewer().detail, viewer().refreshed]).toEqual([levels[1], 0]);
  desktop.setQuality("best");
  expect([viewer().detail, viewer().refreshed]).toEqual([levels[3], 1]);
  desktop.setQuality("slow");
  expect([viewer().detail, viewer().refreshed]).toEqual([levels[0], 1]);
  desktop.setQuality("automatic");
  expect([viewer().detail, viewer().refreshed]).toEqual([levels[1], 2]);
});

it("asks for the whole screen again at full detail once the connection has shown that it is fast", async () => {
  await opened();
  viewer().events.frame({ ms: 30, bytes: 100_000 });
  await vi.advanceTimersByTimeAsync(1000);
  expect([viewer().detail, viewer().refreshed]).toEqual([levels[3], 1]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(viewer().refreshed).toBe(1);
});
