// The only file that loads noVNC; it is itself loaded when a desktop opens. Viewer adds what noVNC's interface does not
// report: frames, sizes and who set them, the time of a round trip, and whether the server accepts a new size and all
// of Unicode.
/* oxlint-disable no-underscore-dangle -- the names are noVNC's; its version is pinned */
import RFB from "@novnc/novnc";
import type { Detail, Frame } from "./quality";
import { reasons, type Reason } from "./size";

/** Who set the size of the remote screen, or may set it; or the server refuses sizes although it offers them. */
export type SizeFrom = "server" | "me" | "other" | "refused";

export interface ViewerEvents {
  /** A whole update of the screen is drawn. */
  frame(frame: Frame): void;
  /** The server accepts sizes, and this is the current one. */
  size(from: SizeFrom): void;
  /** A round trip through the server's queue took this long. */
  roundTrip(ms: number): void;
  /** The server fetched the text that it was offered. */
  taken(): void;
}

// The payload of our fences, which distinguishes them from the server's own.
const fence = [0x63, 0x62];
const fenceRequest = 0x8000_0000;
const fenceBlockBefore = 1;

// The format and the actions of the extended clipboard.
const textFormat = 1;
const actions = { request: 1 << 25, notify: 1 << 27, provide: 1 << 28 };

// Pseudo-encodings of TurboVNC for what JPEG pictures are like. They win over the level from 0 to 9.
const jpegQuality = -512; // plus the quality
const jpegColours = { 1: -768, 2: -766, 4: -767 };
// From this level on, Xvnc takes every picture for perfect. Pictures of lower levels it sends a second time, perfect and
// several times as large, as soon as the screen is at rest.
const perfect = 9;

export class Viewer extends RFB {
  #events: ViewerEvents;
  #asked = 0; // when the fence under way was sent; 0: none
  #began = 0; // when the update under way started to arrive; 0: none
  #field: HTMLElement | undefined;
  #detail: Detail | undefined;
  readonly #received: { bytes: number };
  #before = 0; // bytes received when the update under way started to arrive
  #claim: Reason | undefined; // why to ask for the window's size, once that is possible
  #claimed: Reason | undefined; // why it was asked for; there is no answer yet
  #waits = 0; // since when an answer is due and nothing has arrived; 0: no answer is due

  constructor(target: HTMLElement, channel: WebSocket, events: ViewerEvents) {
    const received = { bytes: 0 };
    // Before noVNC's own listener, which may draw a whole update.
    channel.addEventListener("message", (e: MessageEvent<ArrayBuffer>) => (received.bytes += e.data.byteLength));
    super(target, channel, { shared: true });
    this.#received = received;
    this.#events = events;
    // The data may not be the answer to a fence: while a fence is out, the wait restarts.
    channel.addEventListener("message", () => (this.#waits = this.#asked === 0 ? 0 : performance.now()));
  }

  /** For how long nothing has arrived since the server was asked. */
  get unansweredMs(): number {
    return this.#waits === 0 ? 0 : performance.now() - this.#waits;
  }

  get canvas(): HTMLCanvasElement {
    return this._canvas;
  }

  get width(): number {
    return this._fbWidth;
  }

  get height(): number {
    return this._fbHeight;
  }

  get takesSize(): boolean {
    return this._supportsSetDesktopSize;
  }

  /** Reports whether the clipboard carries all of Unicode; otherwise only Latin-1. */
  get takesUnicode(): boolean {
    return this.#takes("notify") || this.#takesUnasked;
  }

  /** The machine takes a text only as it is: its guest pastes in place of a server that would garble it (x11vnc). */
  get #takesUnasked(): boolean {
    return this.#takes("provide") && !this.#takes("notify") && !this.#takes("request");
  }

  #takes(action: keyof typeof actions): boolean {
    return (
      this._clipboardServerCapabilitiesFormats[textFormat] === true &&
      this._clipboardServerCapabilitiesActions[actions[action]] === true
    );
  }

  // noVNC sends Latin-1 to a server that does not take offers.
  override clipboardPasteFrom(text: string) {
    if (!this.#takesUnasked) super.clipboardPasteFrom(text);
    else if (!this._viewOnly) RFB.messages.extendedClipboardProvide(this._sock, [textFormat], [text]);
  }

  /** Asks for this detail from now on. What is drawn stays as it is. */
  setDetail(detail: Detail) {
    if (detail === this.#detail) return;
    this.#detail = detail;
    if (this._rfbConnectionState === "connected") this._sendEncodings();
  }

  /** Asks for the whole screen again. */
  refresh() {
    RFB.messages.fbUpdateRequest(this._sock, false, 0, 0, this._fbWidth, this._fbHeight);
  }

  protected override _sendEncodings() {
    const { clientEncodings } = RFB.messages;
    if (this.#detail) {
      const { compression, quality, colours } = this.#detail;
      this._compressionLevel = compression;
      this._qualityLevel = perfect;
      RFB.messages.clientEncodings = (sock, all) =>
        clientEncodings(sock, [...all, jpegQuality + quality, jpegColours[colours]]);
    }
    try {
      super._sendEncodings();
    } finally {
      RFB.messages.clientEncodings = clientEncodings;
    }
  }

  /** Gives the focus to field in place of the canvas, and takes its keys, until the signal is aborted. */
  takeKeys(field: HTMLElement, signal: AbortSignal) {
    this.#field = field;
    const takes = (handle: (e: KeyboardEvent) => void) => (e: KeyboardEvent) => this._viewOnly || handle(e);
    field.addEventListener(
      "keydown",
      takes((e) => this._keyboard._handleKeyDown(e)),
      { signal },
    );
    field.addEventListener(
      "keyup",
      takes((e) => this._keyboard._handleKeyUp(e)),
      { signal },
    );
    this._canvas.addEventListener("focus", () => this.focus({ preventScroll: true }), { signal });
  }

  override focus(options?: FocusOptions) {
    (this.#field ?? this._canvas).focus(options);
  }

  override blur() {
    (this.#field ?? this._canvas).blur();
  }

  /**
   * Releases what this press of a key shows to be up: some browsers lose the release of AltGr or of a dead key. noVNC
   * would send the key's earlier meaning, or none.
   */
  releaseLost(e: KeyboardEvent) {
    const down = this._keyboard._keyDownList;
    const release = (code: string) => code in down && this._keyboard._sendKeyEvent(down[code]!, code, false);
    if (!e.repeat) release(e.code);
    const altGr = 0xfe03;
    const isMac = /Mac|iPhone|iPad|iPod/.test(navigator.platform); // it has no AltGr: noVNC makes it of Option
    if (down["AltRight"] === altGr && e.code !== "AltRight" && !e.getModifierState("AltGraph") && !isMac)
      release("AltRight");
  }

  releaseKeys() {
    this._keyboard._allKeysUp();
  }

  /** Asks for a round trip if the server supports it, and reports the time to roundTrip; otherwise for one pixel. */
  ask() {
    if (this.#asked !== 0) return;
    this.#waits ||= performance.now();
    if (!this._supportsFence) {
      RFB.messages.fbUpdateRequest(this._sock, false, 0, 0, 1, 1);
      return;
    }
    this.#asked = performance.now();
    const out = this._sock;
    for (const b of [248, 0, 0, 0]) out.sQpush8(b);
    out.sQpush32(fenceRequest + fenceBlockBefore);
    for (const b of [fence.length, ...fence]) out.sQpush8(b);
    out.flush();
  }

  protected override _framebufferUpdate(): boolean {
    if (this.#began === 0) {
      this.#began = performance.now();
      this.#before = this.#received.bytes;
    }
    const whole = super._framebufferUpdate();
    if (whole) {
      const frame = { ms: performance.now() - this.#began, bytes: this.#received.bytes - this.#before };
      this.#began = 0;
      this.#events.frame(frame);
    }
    return whole;
  }

  /** Asks for the window's size, even if it is the current one: the guest learns that this viewer sets it. */
  claimSize(why: "works" | "arrives" | "returns") {
    if (this.#claimed === why) return;
    this.#claim = why;
    this._requestRemoteResize();
  }

  /** Sets no size any more, or gives all viewers the default size. */
  giveUpSize(why: "leaves" | "resets") {
    this.#claim = undefined;
    if (this._supportsSetDesktopSize && !this._viewOnly) this.#askForSize(why);
  }

  // A panel that is hidden or off the page has no size to ask for. noVNC asks again when it has one.
  protected override _requestRemoteResize() {
    const { w, h } = this._screenSize();
    if (w < 160 || h < 120) return;
    if (this.#claim === undefined) {
      super._requestRemoteResize();
      return;
    }
    if (this._viewOnly || !this._supportsSetDesktopSize || this._pendingRemoteResize) return;
    this._pendingRemoteResize = true;
    this.#claimed = this.#claim;
    this.#claim = undefined;
    this.#askForSize(this.#claimed, w, h);
  }

  // noVNC requests the size in whole pixels, and would repeat that without end in an element with parts of a pixel.
  protected override _screenSize(): { w: number; h: number } {
    const { w, h } = super._screenSize();
    return { w: Math.floor(w), h: Math.floor(h) };
  }

  #askForSize(why: Reason, width = 0, height = 0) {
    const out = this._sock;
    for (const b of [251, reasons[why]]) out.sQpush8(b);
    for (const n of [width, height]) out.sQpush16(n);
    for (const b of [width === 0 ? 0 : 1, 0]) out.sQpush8(b); // screens
    if (width !== 0) {
      out.sQpush32(this._screenID);
      for (const n of [0, 0, width, height]) out.sQpush16(n);
      out.sQpush32(this._screenFlags);
    }
    out.flush();
  }

  protected override _handleExtendedDesktopSize(): boolean {
    const { x, y } = this._FBU; // the reason, and the outcome of our own request
    const whole = super._handleExtendedDesktopSize();
    if (!whole) return false;
    if (x !== 1) {
      this.#events.size(x === 2 ? "other" : "server");
      return true;
    }
    this.#claimed = undefined;
    const outcomes: Record<number, SizeFrom> = { 0: "me", 1: "refused", 3: "other" }; // the guest answers 3
    const from = outcomes[y];
    if (from) this.#events.size(from);
    if (this.#claim !== undefined) this._requestRemoteResize();
    return true;
  }

  // noVNC fails on a fence that is not a request; it never sends one itself.
  protected override _handleServerFenceMsg(): boolean {
    const size = 8 + fence.length;
    if (this.#asked !== 0 && !this._sock.rQwait("fence", size)) {
      const b = this._sock.rQpeekBytes(size);
      if ((b[3]! & 0x80) === 0 && b[7] === fence.length && fence.every((f, i) => b[8 + i] === f)) {
        this._sock.rQskipBytes(size);
        this.#events.roundTrip(performance.now() - this.#asked);
        this.#asked = this.#waits = 0;
        return true;
      }
    }
    return super._handleServerFenceMsg();
  }

  // In view mode noVNC leaves the text of an unrequested "provide" unread, and then misreads the stream. Reading
  // continues as in control mode: the server drops what it would send, and the listener drops the text.
  protected override _handleServerCutText(): boolean {
    const view = this._viewOnly;
    const request = !this._sock.rQwait("clipboard", 11) && this._sock.rQpeekBytes(11);
    this._viewOnly = false;
    let whole = false;
    try {
      whole = super._handleServerCutText();
    } finally {
      this._viewOnly = view;
    }
    // A negative length marks the extended clipboard; its first byte is the action.
    if (whole && request && request[3]! >= 0x80 && request[7] === 2) this.#events.taken();
    return whole;
  }
}
