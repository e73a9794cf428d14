/**
 * One instance's desktop in the browser: its connection, its element and its settings. It lives outside
 * React, so that pages and panels come and go without it: `attach` moves the element, and what is
 * connected stays connected. `subscribe` and `getSnapshot` suit useSyncExternalStore.
 *
 *     const desktop = new Desktop(instance.id);   // one an instance, kept by the workspace
 *     desktop.setUp(true);                        // the machine runs: connect, and stay connected
 *     desktop.attach(container);
 *     desktop.close();                            // when the workspace lets go of the instance
 */
import { openBridge } from "@/api/bridge";
import { Reconnect, refusal, tellClosed, type State } from "@/bridge/reconnect";
import { leftAround } from "@/ui/focus";
import { browserClipboard, ClipboardSync, type ClipboardState, type Sent } from "./clipboard";
import {
  Backspace,
  Control,
  Enter,
  keysymOf,
  letterOf,
  meansControl,
  pastes,
  typed,
  WayOut,
  type Combination,
  type Key,
} from "./keys";
import { adapt, levelFor, start, type Quality, type QualityChoice } from "./quality";
import { decides, type SizeEvent } from "./size";
import type { SizeFrom, Viewer, ViewerEvents } from "./viewer";

export type Mode = "control" | "view";
export type Scale = "fit" | "match" | "actual";

export interface DesktopSnapshot {
  link: State;
  /** A frame of the present connection is shown; until then it is the last one of the one before. */
  painted: boolean;
  /** There is a last frame to show. */
  still: boolean;
  mode: Mode;
  scale: Scale;
  /** The server takes a size (Match); undefined: not known yet. */
  takesSize: boolean | undefined;
  /** In Match: this viewer decides the size. */
  decides: boolean;
  width: number;
  height: number;
  /** What the desktop calls itself. */
  title: string;
  quality: QualityChoice;
  /** Of detail, 0 to 3. */
  level: number;
  roundTripMs: number | undefined;
  /** Keys held down from the menu. */
  held: readonly Key[];
  /** Keys go to the desktop. */
  focused: boolean;
  /** Dragging moves the view instead of the remote pointer. */
  panning: boolean;
  clipboard: ClipboardState;
}

type ViewerModule = { Viewer: new (target: HTMLElement, channel: WebSocket, tell: ViewerEvents) => Viewer };

/** What a test replaces. */
export interface DesktopParts {
  open: typeof openBridge;
  load: () => Promise<ViewerModule>;
  socket: (url: string, protocols: string[]) => WebSocket;
}

const parts: DesktopParts = {
  open: openBridge,
  load: () => import("./viewer"),
  socket: (url, protocols) => new WebSocket(url, protocols),
};

const isMac = /Mac|iPhone|iPad|iPod/.test(navigator.platform);
const pasteEventWithin = 60; // ms after the key; a browser that fires none has no text for us
const deadAfter = 15_000; // ms without an answer, or anything else: a line that was cut says nothing
const takenWithin = 100; // ms; a server that fetches the text only when a program asks for it needs none

export class Desktop {
  /** Holds the screen; attach puts it where it is seen. */
  readonly element = document.createElement("div");
  #snapshot: DesktopSnapshot;
  #listeners = new Set<() => void>();
  #parts: DesktopParts;
  #link: Reconnect;
  #viewer: Viewer | undefined;
  #stage = document.createElement("div");
  #still = document.createElement("canvas");
  #clipboard: ClipboardSync;
  #quality: Quality = start;
  #slowest: number | undefined; // frame of this second, ms
  #roundTrip: number | undefined; // of this second, ms
  #ticking: ReturnType<typeof setInterval> | undefined;
  #size = ""; // of the remote screen, as last told
  #fixed = false; // the server refused a size
  #wayOut = new WayOut();
  #leave = () => {};
  #hadFocus = false; // when the connection broke: the next one gives it back
  /** A key that pastes, kept back until the desktop was told of the text. */
  #paste: { key: Key; timer: ReturnType<typeof setTimeout>; told: boolean } | undefined;
  #watching = new AbortController();

  constructor(
    readonly id: string,
    replaced: Partial<DesktopParts> = {},
  ) {
    this.#parts = { ...parts, ...replaced };
    this.#clipboard = new ClipboardSync(browserClipboard, () => this.#set({ clipboard: this.#clipboard.state }));
    this.#link = new Reconnect({ connect: (generation, signal) => void this.#connect(generation, signal) });
    this.#snapshot = {
      link: this.#link.state,
      painted: false,
      still: false,
      mode: "control",
      takesSize: undefined,
      decides: false,
      width: 0,
      height: 0,
      title: "",
      level: start.level,
      roundTripMs: undefined,
      held: [],
      focused: false,
      panning: false,
      clipboard: this.#clipboard.state,
      ...saved(),
    };
    this.#link.subscribe(() => this.#linkChanged());

    this.element.className = "cloudbot-desktop";
    Object.assign(this.element.style, { position: "relative", width: "100%", height: "100%", overflow: "hidden" });
    Object.assign(this.#stage.style, { position: "absolute", inset: "0" });
    Object.assign(this.#still.style, {
      position: "absolute",
      inset: "0",
      margin: "auto",
      filter: "brightness(0.55)",
      pointerEvents: "none",
    });
    this.#still.setAttribute("aria-hidden", "true");
    this.#still.hidden = true;
    this.element.append(this.#stage, this.#still);
    this.#listen();
  }

  // — for React —

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  getSnapshot = (): DesktopSnapshot => this.#snapshot;

  // — life —

  /** The machine runs, as far as is known: connect. Otherwise let go, and keep the last frame. */
  setUp(up: boolean) {
    if (!up) this.#link.send({ type: "stop" });
    else if (this.#link.state.at === "idle") this.#link.send({ type: "start" });
  }

  /** Shows it in container; from wherever it was, without a new connection. */
  attach(container: HTMLElement) {
    container.append(this.element);
    this.#applyScale();
  }

  /** Takes it off the page, connected still. Where it was moved elsewhere already, nothing happens. */
  detach(container: HTMLElement) {
    if (this.element.parentElement === container) this.element.remove();
  }

  retryNow() {
    this.#link.send({ type: "retryNow" });
  }

  /** Lets go for good. */
  close() {
    this.#link.send({ type: "stop" });
    this.#watching.abort();
    this.element.remove();
  }

  // — settings —

  /** What a viewer may do is the server's to enforce, so another mode is another ticket and connection. */
  setMode(mode: Mode) {
    if (mode === this.#snapshot.mode) return;
    this.#set({ mode });
    if (this.#link.state.at === "idle" || this.#link.state.at === "ended") return;
    this.#link.send({ type: "stop" });
    this.#link.send({ type: "start" });
  }

  setScale(scale: Scale) {
    this.#set({ scale, panning: false });
    this.#save();
    if (scale === "match") this.#decide({ type: "worked" });
    this.#applyScale();
  }

  setQuality(quality: QualityChoice) {
    this.#set({ quality });
    this.#save();
    this.#applyQuality();
  }

  setPanning(panning: boolean) {
    this.#set({ panning });
    this.#applyScale();
  }

  // — keys —

  /** What to do when the user leaves the desktop by keyboard: focus something near. */
  onLeave(leave: () => void) {
    this.#leave = leave;
  }

  focus() {
    this.#viewer?.focus({ preventScroll: true });
  }

  press(c: Combination) {
    for (const k of c.keys) this.#key(k, true);
    for (const k of c.keys.toReversed()) this.#key(k, false);
    this.#releaseHeld();
  }

  /** Holds a key down, or lets it go. It goes by itself with the next combination and when the page is left. */
  hold(k: Key, down: boolean) {
    if (this.#snapshot.held.includes(k) === down || this.#viewer === undefined) return;
    this.#key(k, down);
    this.#set({ held: down ? [...this.#snapshot.held, k] : this.#snapshot.held.filter((h) => h !== k) });
  }

  /** Types what changed in a field that an on-screen keyboard writes to. */
  typed(before: string, after: string) {
    const { removed, added } = typed(before, after);
    for (let i = 0; i < removed; i++) this.tap(Backspace);
    for (const c of added) this.#viewer?.sendKey(keysymOf(c), c === "\n" ? Enter.code : null);
    if (added.length > 0) this.#releaseHeld();
  }

  tap(k: Key) {
    this.#viewer?.sendKey(k.keysym, k.code);
  }

  // — clipboard —

  /** Gives text to the desktop, as if it had been copied there. */
  sendText(text: string): Sent {
    return this.#clipboard.send(text);
  }

  /** Puts the desktop's text into the browser's clipboard; false: the browser refused. */
  takeText(): Promise<boolean> {
    return this.#clipboard.take();
  }

  /** Asks the browser to let the clipboard be read; call it only when the user wishes so. */
  allowClipboard(): Promise<void> {
    return this.#clipboard.allow();
  }

  // — the connection —

  async #connect(generation: number, signal: AbortSignal) {
    const { open, load, socket: dial } = this.#parts;
    const { mode } = this.#snapshot;
    try {
      const [{ Viewer }, { url, protocols, whyNot }] = await Promise.all([load(), open(this.id, "vnc", mode, signal)]);
      if (signal.aborted) return;
      const socket = dial(url, protocols);
      const over = (code: number, reason: string) => this.#link.send({ type: "closed", generation, code, reason });
      let opened = false;
      let closed = false;
      let disconnected = false;
      socket.addEventListener("open", () => (opened = true), { once: true });
      // Before noVNC's own listener: it knows the code no more.
      socket.addEventListener(
        "close",
        (e) => {
          closed = true;
          if (!opened && !disconnected) viewer.disconnect(); // why it closed may have to be asked first, and noVNC would complain meanwhile
          tellClosed((event) => this.#link.send(event), generation, e, opened, whyNot, signal);
        },
        { once: true },
      );
      const viewer: Viewer = new Viewer(this.#stage, socket, {
        frame: (ms) => this.#frame(viewer, ms),
        size: (from) => this.#resized(viewer, from),
        roundTrip: (ms) => (this.#roundTrip = ms),
        taken: () => this.#paste?.told && this.#finishPaste(),
      });
      viewer.addEventListener("connect", () => {
        if (!signal.aborted) this.#connected(viewer, generation);
      });
      viewer.addEventListener("disconnect", () => {
        disconnected = true;
        if (!closed) over(1006, ""); // it broke off over the protocol
      });
      signal.addEventListener(
        "abort",
        () => {
          this.#over(viewer);
          if (!disconnected) viewer.disconnect();
        },
        { once: true },
      );
      viewer.viewOnly = mode === "view";
      viewer.background = "transparent";
      viewer.showDotCursor = true;
      viewer.addEventListener("desktopname", (e) => this.#set({ title: e.detail.name }));
      viewer.addEventListener("clipboard", (e) => {
        if (mode === "control")
          void this.#clipboard.fromDesktop(e.detail.text, this.#snapshot.focused && document.hasFocus());
      });
    } catch (error) {
      this.#link.send({ type: "failed", generation, error: refusal(error) });
    }
  }

  #connected(viewer: Viewer, generation: number) {
    const { canvas } = viewer;
    // In the order of Tab: what the panel says beside it tells the way out again.
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute(
      "aria-label",
      `Desktop${this.#snapshot.mode === "view" ? ", view only" : ""}. Leave it with Ctrl, Alt and Shift together.`,
    );
    this.#viewer = viewer;
    this.#size = "";
    this.#quality = start;
    this.#applyQuality();
    this.#applyScale();
    if (this.#snapshot.mode === "control") {
      this.#clipboard.connected({
        get takesUnicode() {
          return viewer.takesUnicode;
        },
        send: (text) => viewer.clipboardPasteFrom(text),
      });
    }
    this.#ticking = setInterval(() => this.#tick(viewer, generation), 1000);
    this.#link.send({ type: "opened", generation });
    if (this.#hadFocus && leftAround(this.element)) this.focus();
    this.#hadFocus = false;
    if (document.hasFocus()) this.#decide({ type: "worked" });
  }

  #over(viewer: Viewer) {
    if (viewer === this.#viewer) {
      this.#hadFocus = this.#snapshot.focused;
      clearInterval(this.#ticking);
      this.#keepFrame(viewer);
      this.#viewer = undefined;
      this.#clipboard.disconnected();
      this.#set({
        painted: false,
        held: [],
        focused: false,
        takesSize: undefined,
        roundTripMs: undefined,
        panning: false,
      });
    }
  }

  /** The picture stays while there is no connection; it is a copy, so a dead viewer keeps nothing alive. */
  #keepFrame(viewer: Viewer) {
    const from = viewer.canvas;
    if (!this.#snapshot.painted || from.width === 0 || from.height === 0) return;
    const still = this.#still;
    still.width = from.width;
    still.height = from.height;
    still.getContext("2d")?.drawImage(from, 0, 0);
    const natural = this.#snapshot.scale === "actual";
    Object.assign(
      still.style,
      natural ? { width: "", height: "", objectFit: "" } : { width: "100%", height: "100%", objectFit: "contain" },
    );
    still.hidden = false;
    this.#set({ still: true });
  }

  #frame(viewer: Viewer, ms: number) {
    this.#slowest = Math.max(this.#slowest ?? 0, ms);
    if (viewer !== this.#viewer || this.#snapshot.painted) return;
    this.#still.hidden = true;
    this.#set({
      painted: true,
      still: false,
      takesSize: viewer.takesSize && !this.#fixed,
      width: viewer.width,
      height: viewer.height,
    });
    this.#applyScale();
  }

  #tick(viewer: Viewer, generation: number) {
    if (viewer.unansweredMs >= deadAfter) {
      this.#link.send({ type: "closed", generation, code: 1006, reason: "" });
      return;
    }
    this.#quality = adapt(this.#quality, { frameMs: this.#slowest, roundTripMs: this.#roundTrip });
    if (this.#roundTrip !== undefined) this.#set({ roundTripMs: Math.round(this.#roundTrip) });
    this.#slowest = this.#roundTrip = undefined;
    this.#applyQuality();
    this.#clipboard.look();
    viewer.ask();
  }

  #linkChanged() {
    this.#set({ link: this.#link.state });
  }

  // — size and quality —

  #resized(viewer: Viewer, from: SizeFrom) {
    if (from === "refused") {
      this.#fixed = true;
      this.#set({ takesSize: false, ...(this.#snapshot.scale === "match" ? { scale: "fit" } : {}) });
      this.#applyScale();
      return;
    }
    const size = `${viewer.width}x${viewer.height}`;
    const changed = this.#size !== "" && this.#size !== size;
    this.#size = size;
    this.#set({ takesSize: !this.#fixed, width: viewer.width, height: viewer.height });
    this.#decide(from === "server" ? { type: "resized", from, changed } : { type: "resized", from });
  }

  #decide(e: SizeEvent) {
    const now = this.#snapshot.scale === "match" && decides(this.#snapshot.decides, e);
    if (now === this.#snapshot.decides) return;
    this.#set({ decides: now });
    this.#applyScale();
  }

  #applyScale() {
    const v = this.#viewer;
    if (!v) return;
    const { scale, mode, takesSize, decides: mine, panning } = this.#snapshot;
    // Match falls back to Fit where the size is the server's or another viewer's to decide.
    const sizes = scale === "match" && mode === "control" && mine && takesSize !== false;
    // A scrollbar needs a mouse; fingers drag.
    const drags = scale === "actual" && matchMedia("(pointer: coarse)").matches;
    v.clipViewport = drags;
    v.dragViewport = drags && panning;
    v.scaleViewport = scale === "fit" || (scale === "match" && !sizes);
    v.resizeSession = sizes;
  }

  #applyQuality() {
    const { quality, compression } = levelFor(this.#snapshot.quality, this.#quality);
    if (this.#viewer) {
      this.#viewer.qualityLevel = quality;
      this.#viewer.compressionLevel = compression;
    }
    this.#set({ level: this.#quality.level });
  }

  // — what the user does on it —

  #listen() {
    const { signal } = this.#watching;
    const on = { capture: true, signal };
    this.element.addEventListener("keydown", (e) => this.#keyDown(e), on);
    this.element.addEventListener("keyup", (e) => this.#keyUp(e), on);
    this.element.addEventListener("pointerdown", () => this.#worked(), on);
    this.element.addEventListener(
      "focusin",
      () => {
        this.#set({ focused: true });
        void this.#clipboard.focused();
      },
      on,
    );
    this.element.addEventListener(
      "focusout",
      () => {
        this.#viewer?.releaseKeys();
        this.#wayOut.reset();
        this.#set({ focused: false });
      },
      on,
    );
    document.addEventListener("paste", (e) => this.#pasted(e), on);
    window.addEventListener(
      "focus",
      () => {
        if (this.#snapshot.focused) void this.#clipboard.focused();
      },
      { signal },
    );
    window.addEventListener(
      "blur",
      () => {
        // Keys let go elsewhere would stay pressed there.
        this.#viewer?.releaseKeys();
        this.#releaseHeld();
        this.#wayOut.reset();
      },
      { signal },
    );
  }

  #worked() {
    if (this.#snapshot.mode === "view") return;
    void this.#clipboard.gesture();
    this.#decide({ type: "worked" });
  }

  #keyDown(e: KeyboardEvent) {
    this.#wayOut.press(e.code);
    if (this.#snapshot.mode === "view") return;
    this.#finishPaste(); // before any later key
    this.#worked();
    if (pastes(e, isMac)) {
      // Kept from noVNC, which would keep the browser from pasting. The key follows the text.
      e.stopPropagation();
      this.#awaitPaste({ name: "", code: e.code, keysym: e.code === "Insert" ? 0xff63 : e.shiftKey ? 0x56 : 0x76 });
    } else if (meansControl(e, isMac)) {
      e.stopPropagation();
      e.preventDefault();
      this.#withControl({ name: "", code: e.code, keysym: keysymOf(letterOf(e)) });
    }
  }

  #keyUp(e: KeyboardEvent) {
    if (e.code !== this.#paste?.key.code) this.#finishPaste(); // while its modifiers are down
    if (!this.#wayOut.release(e.code)) return;
    this.#viewer?.releaseKeys();
    this.#viewer?.blur();
    this.#leave();
  }

  #awaitPaste(key: Key, told = false) {
    clearTimeout(this.#paste?.timer);
    this.#paste = { key, told, timer: setTimeout(() => this.#finishPaste(), told ? takenWithin : pasteEventWithin) };
  }

  #pasted(e: ClipboardEvent) {
    if (!this.#snapshot.focused || this.#snapshot.mode === "view") return;
    e.preventDefault();
    e.stopPropagation();
    const sent = this.#clipboard.send(e.clipboardData?.getData("text/plain") ?? "");
    if (sent === "long")
      this.#dropPaste(); // its key would paste what was there before
    else if (this.#paste && sent === "sent") this.#awaitPaste(this.#paste.key, true);
    else if (this.#paste) this.#finishPaste();
    else this.#withControl({ name: "", code: "KeyV", keysym: 0x76 }); // from the browser's menu
  }

  #dropPaste(): Key | undefined {
    const key = this.#paste?.key;
    clearTimeout(this.#paste?.timer);
    this.#paste = undefined;
    return key;
  }

  #finishPaste() {
    const key = this.#dropPaste();
    if (!key) return;
    if (isMac) this.#withControl(key);
    else this.tap(key); // the modifiers are down already
  }

  #withControl(key: Key) {
    this.#viewer?.releaseKeys();
    this.#key(Control, true);
    this.tap(key);
    this.#key(Control, false);
  }

  #key(k: Key, down: boolean) {
    this.#viewer?.sendKey(k.keysym, k.code, down);
  }

  #releaseHeld() {
    for (const k of this.#snapshot.held) this.hold(k, false);
  }

  // — bookkeeping —

  #set(patch: Partial<DesktopSnapshot>) {
    const next = { ...this.#snapshot, ...patch };
    if (
      Object.keys(patch).every((k) => next[k as keyof DesktopSnapshot] === this.#snapshot[k as keyof DesktopSnapshot])
    )
      return;
    this.#snapshot = next;
    for (const listener of this.#listeners) listener();
  }

  #save() {
    const { scale, quality } = this.#snapshot;
    try {
      localStorage.setItem(storageKey, JSON.stringify({ scale, quality }));
    } catch {
      // private windows may refuse; the settings last as long as the page
    }
  }
}

const storageKey = "cloudbot.desktop";

function saved(): { scale: Scale; quality: QualityChoice } {
  let from: { scale?: unknown; quality?: unknown } = {};
  try {
    from = (JSON.parse(localStorage.getItem(storageKey) ?? "{}") ?? {}) as typeof from;
  } catch {
    // whatever is there, it is not ours
  }
  return {
    scale: from.scale === "match" || from.scale === "actual" ? from.scale : "fit",
    quality: from.quality === "best" || from.quality === "slow" ? from.quality : "automatic",
  };
}
