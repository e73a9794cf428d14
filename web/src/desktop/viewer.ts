// The only file that loads noVNC; it is itself loaded when a desktop opens. Viewer adds what noVNC's interface does not
// report: frames, sizes and who set them, the time of a round trip, and whether the server accepts a new size and all
// of Unicode.
/* oxlint-disable no-underscore-dangle -- the names are noVNC's; its version is pinned */
import RFB from "@novnc/novnc";

/** What set the size of the remote screen; or the server refuses sizes although it offers them. */
export type SizeFrom = "server" | "me" | "other" | "refused";

export interface ViewerEvents {
  /** A whole update of the screen is drawn; it took this long from its first byte. */
  frame(ms: number): void;
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

export class Viewer extends RFB {
  #events: ViewerEvents;
  #asked = 0; // when the fence under way was sent; 0: none
  #began = 0; // when the update under way started to arrive; 0: none
  #waits = 0; // since when an answer is due and nothing has arrived; 0: no answer is due

  constructor(target: HTMLElement, channel: WebSocket, events: ViewerEvents) {
    super(target, channel, { shared: true });
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
    return this._clipboardServerCapabilitiesFormats[1] === true;
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
    this.#began ||= performance.now();
    const whole = super._framebufferUpdate();
    if (whole) {
      const ms = performance.now() - this.#began;
      this.#began = 0;
      this.#events.frame(ms);
    }
    return whole;
  }

  // A panel that is hidden or off the page has no size to ask for.
  protected override _requestRemoteResize() {
    const { width, height } = this._screen.getBoundingClientRect();
    if (width >= 160 && height >= 120) super._requestRemoteResize();
  }

  protected override _handleExtendedDesktopSize(): boolean {
    const { x, y } = this._FBU; // the reason, and the outcome of our own request
    const whole = super._handleExtendedDesktopSize();
    const prohibited = 1;
    if (!whole) return false;
    if (x !== 1) this.#events.size(x === 2 ? "other" : "server");
    else if (y === 0 || y === prohibited) this.#events.size(y === 0 ? "me" : "refused");
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
