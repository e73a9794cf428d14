/**
 * One instance's desktop in the browser: its connection, its element and its settings. It lives outside
 * React, so pages and panels can come and go: `attach` moves the element, and the connection stays open.
 * `subscribe` and `getSnapshot` suit useSyncExternalStore.
 *
 *     const desktop = new Desktop(instance.id);   // one per instance, kept by the workspace
 *     desktop.setUp(true);                        // the machine is running: connect, and stay connected
 *     desktop.attach(container);
 *     desktop.close();                            // when the workspace no longer needs the instance
 */
import { Reconnect } from "@/bridge/reconnect";
import { leftAround } from "@/ui/focus";
import { browserClipboard, ClipboardSync } from "./clipboard";
import { browserParts, dial, type DesktopParts } from "./dial";
import { TextField } from "./field";
import { Input, type Use } from "./input";
import { Keyboard } from "./keyboard";
import { adapt, levelFor, levels, start, type Frame, type Quality, type QualityChoice } from "./quality";
import { Screen } from "./screen";
import { decides, type SizeEvent } from "./size";
import { savedSettings, saveSettings, type DesktopSnapshot, type Mode, type Scale } from "./snapshot";
import type { SizeFrom, Viewer } from "./viewer";

const deadAfter = 15_000; // ms without an answer or any other data: a cut line reports nothing

export class Desktop {
  readonly keyboard = new Keyboard(
    () => this.#set({ held: this.keyboard.held }),
    () => this.#used("act"),
  );
  readonly #closed = new AbortController();
  /** Has the keyboard. */
  readonly field = new TextField(this.keyboard, this.#closed.signal);
  readonly clipboard = new ClipboardSync(browserClipboard, () => this.#set({ clipboard: this.clipboard.state }));
  #snapshot: DesktopSnapshot;
  #listeners = new Set<() => void>();
  #parts: DesktopParts;
  #link: Reconnect;
  #viewer: Viewer | undefined;
  #screen = new Screen();
  #input: Input;
  #quality: Quality = start;
  #asked: number = start.level; // the level that the server was asked for
  #slowest: Frame | undefined; // of this second
  #roundTrip: number | undefined; // of this second, ms
  #ticking: ReturnType<typeof setInterval> | undefined;
  #size = ""; // of the remote screen, as last reported
  #fixed = false; // the server refused a size
  #hadSize = false; // this viewer set the size when the connection broke
  #leave = () => {};
  #users = new Set<(use: Use) => void>();
  #hadFocus = false; // when the connection broke: the next one restores it
  #connection = new AbortController();

  constructor(
    readonly id: string,
    replaced: Partial<DesktopParts> = {},
  ) {
    this.#parts = { ...browserParts, ...replaced };
    this.#link = new Reconnect({ connect: (generation, signal) => void this.#connect(generation, signal) });
    this.#snapshot = {
      link: this.#link.state,
      painted: false,
      still: false,
      mode: "control",
      takesSize: undefined,
      decides: false,
      viewers: 0,
      width: 0,
      height: 0,
      title: "",
      level: start.level,
      roundTripMs: undefined,
      held: this.keyboard.held,
      focused: false,
      onScreen: false,
      panning: false,
      clipboard: this.clipboard.state,
      ...savedSettings(),
    };
    this.#link.subscribe(() => this.#set({ link: this.#link.state }));
    this.clipboard.restore(id);
    this.#input = new Input(
      {
        element: this.element,
        keyboard: this.keyboard,
        field: this.field,
        clipboard: this.clipboard,
        controls: () => this.#snapshot.mode === "control",
        onWork: () => this.#claimSize("works"),
        onUse: (use) => this.#used(use),
        onFocus: (focused) => this.#set({ focused }),
        onLeave: () => {
          this.#viewer?.blur();
          this.#leave();
        },
      },
      this.#closed.signal,
    );
  }

  /** Holds the screen; attach puts it on the page. */
  get element(): HTMLElement {
    return this.#screen.element;
  }

  // — for React —

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  getSnapshot = (): DesktopSnapshot => this.#snapshot;

  // — life —

  /** Connects if the machine is running, as far as is known. Otherwise disconnects and keeps the last frame. */
  setUp(up: boolean) {
    if (!up) this.#link.send({ type: "stop" });
    else if (this.#link.state.at === "idle") this.#link.send({ type: "start" });
  }

  /** Shows the desktop in container, wherever it was before, without a new connection. */
  attach(container: HTMLElement) {
    container.append(this.element);
    this.#applyScale();
  }

  /** Takes the desktop off the page; it stays connected. Has no effect if it has already moved elsewhere. */
  detach(container: HTMLElement) {
    if (this.element.parentElement === container) this.element.remove();
  }

  focus() {
    this.#viewer?.focus({ preventScroll: true });
  }

  /** Sets what to do when the user leaves the desktop by keyboard: focus something near it. */
  onLeave(leave: () => void) {
    this.#leave = leave;
  }

  /** Calls used whenever the user uses the mouse or the keyboard on the desktop, until the returned function is called. */
  onUse(used: (use: Use) => void): () => void {
    this.#users.add(used);
    return () => void this.#users.delete(used);
  }

  #used(use: Use) {
    if (!this.#viewer || this.#snapshot.mode === "view") return; // nothing reaches the desktop
    for (const used of this.#users) used(use);
  }

  retryNow() {
    this.#link.send({ type: "retryNow" });
  }

  /** Disconnects permanently. */
  close() {
    this.#link.send({ type: "stop" });
    this.#closed.abort();
    this.element.remove();
  }

  // — settings —

  /** The server enforces what a viewer may do, so another mode needs another ticket and connection. */
  setMode(mode: Mode) {
    if (mode === this.#snapshot.mode) return;
    this.#set({ mode });
    if (this.#link.state.at === "idle" || this.#link.state.at === "ended") return;
    this.#link.send({ type: "stop" });
    this.#link.send({ type: "start" });
  }

  setScale(scale: Scale) {
    if (scale !== "match" && this.#snapshot.scale === "match") this.#viewer?.giveUpSize("leaves");
    this.#choose(scale);
    this.#claimSize("works");
  }

  /** Gives all viewers the default size. */
  resetSize() {
    this.#viewer?.giveUpSize("resets");
    this.#choose("fit");
  }

  #choose(scale: Scale) {
    this.#set({ scale, panning: false, ...(scale === "match" ? {} : { decides: false }) });
    saveSettings(this.#snapshot);
    this.#applyScale();
  }

  /** Sets how many viewers the desktop has, as the server reports it; 0: at most one. */
  setViewers(viewers: number) {
    this.#set({ viewers });
  }

  setQuality(quality: QualityChoice) {
    this.#set({ quality });
    saveSettings(this.#snapshot);
    this.#applyQuality(true);
  }

  /** Shows the device's on-screen keyboard and the keys that it lacks. */
  setOnScreen(onScreen: boolean) {
    this.field.element.blur(); // a phone shows its keyboard only for a field that gets the focus
    this.field.setOnScreen(onScreen);
    this.#set({ onScreen });
    if (onScreen) this.focus();
  }

  setPanning(panning: boolean) {
    this.#set({ panning });
    this.#applyScale();
  }

  // — the connection —

  #connect(generation: number, signal: AbortSignal): Promise<void> {
    const { mode, quality } = this.#snapshot;
    const detail = levels[levelFor(quality, start)]!;
    const send = this.#link.send.bind(this.#link);
    return dial(
      this.#parts,
      { instance: this.id, mode, stage: this.#screen.stage, detail, generation, signal, send },
      {
        connected: (viewer) => this.#connected(viewer, generation),
        over: (viewer) => this.#over(viewer),
        frame: (viewer, frame) => this.#frame(viewer, frame),
        size: (viewer, from) => this.#resized(viewer, from),
        roundTrip: (ms) => (this.#roundTrip = ms),
        taken: () => this.#input.textTaken(),
        title: (title) => this.#set({ title }),
        copied: (text) => void this.clipboard.fromDesktop(text, this.#snapshot.focused && document.hasFocus()),
      },
    );
  }

  #connected(viewer: Viewer, generation: number) {
    const { canvas } = viewer;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "Screen");
    const viewOnly = this.#snapshot.mode === "view";
    const name = viewOnly ? "Desktop, view only" : "Desktop";
    // In tab order: the label says how to leave.
    this.field.describe(`${name}. Press Ctrl, Alt and Shift together to leave it.`, viewOnly);
    this.element.append(this.field.element);
    viewer.takeKeys(this.field.element, this.#connection.signal);
    this.#viewer = viewer;
    this.keyboard.connected(viewer);
    this.#size = "";
    this.#quality = start;
    this.#asked = levelFor(this.#snapshot.quality, start);
    this.#applyQuality();
    this.#applyScale();
    if (this.#snapshot.mode === "control") {
      this.clipboard.connected({
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
    this.#claimSize(this.#hadSize ? "returns" : "arrives");
  }

  #over(viewer: Viewer) {
    if (viewer !== this.#viewer) return;
    this.#hadFocus = this.#snapshot.focused;
    this.#hadSize = this.#snapshot.decides;
    this.#connection.abort();
    this.field.element.remove(); // without a connection it types nothing
    this.field.settle();
    this.#connection = new AbortController();
    clearInterval(this.#ticking);
    this.#keepFrame(viewer);
    this.#viewer = undefined;
    this.keyboard.disconnected();
    this.clipboard.disconnected();
    this.#input.disconnected();
    this.#set({
      painted: false,
      decides: false,
      held: this.keyboard.held,
      focused: false,
      takesSize: undefined,
      roundTripMs: undefined,
      panning: false,
    });
  }

  #keepFrame({ canvas }: Viewer) {
    if (!this.#snapshot.painted || canvas.width === 0 || canvas.height === 0) return;
    this.#screen.keep(canvas, this.#snapshot.scale === "actual");
    this.#set({ still: true });
  }

  #frame(viewer: Viewer, frame: Frame) {
    if (frame.ms >= (this.#slowest?.ms ?? 0)) this.#slowest = frame;
    if (viewer !== this.#viewer || this.#snapshot.painted) return;
    this.#screen.hideKept();
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
    this.#quality = adapt(this.#quality, { frame: this.#slowest, roundTripMs: this.#roundTrip });
    if (this.#roundTrip !== undefined) this.#set({ roundTripMs: Math.round(this.#roundTrip) });
    this.#slowest = this.#roundTrip = undefined;
    this.#applyQuality();
    this.clipboard.look();
    viewer.ask();
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
    this.#decide(from === "server" ? { from, changed } : { from });
  }

  #claimSize(why: "works" | "arrives" | "returns") {
    const { scale, mode, takesSize, decides: mine } = this.#snapshot;
    if (scale === "match" && mode === "control" && takesSize !== false && !mine) this.#viewer?.claimSize(why);
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
    // Match falls back to Fit where the server or another viewer decides the size.
    const sizes = scale === "match" && mode === "control" && mine && takesSize !== false;
    // A scrollbar needs a mouse; fingers drag.
    const drags = scale === "actual" && matchMedia("(pointer: coarse)").matches;
    v.clipViewport = drags;
    v.dragViewport = drags && panning;
    v.scaleViewport = scale === "fit" || (scale === "match" && !sizes);
    v.resizeSession = sizes;
  }

  #applyQuality(chosen = false) {
    const level = levelFor(this.#snapshot.quality, this.#quality);
    const before = this.#asked;
    this.#asked = level;
    this.#viewer?.setDetail(levels[level]!);
    // What is at rest would keep its lower detail. On a connection that may be slow, only the user can decide that.
    if (level > before && (level === levels.length - 1 || chosen)) this.#viewer?.refresh();
    this.#set({ level: this.#quality.level });
  }

  #set(patch: Partial<DesktopSnapshot>) {
    const next = { ...this.#snapshot, ...patch };
    if (
      Object.keys(patch).every((k) => next[k as keyof DesktopSnapshot] === this.#snapshot[k as keyof DesktopSnapshot])
    )
      return;
    this.#snapshot = next;
    for (const listener of this.#listeners) listener();
  }
}
