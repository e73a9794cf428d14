// The only file that loads noVNC, and it is itself loaded when a desktop opens. Viewer adds to it what
// its interface does not tell: frames, sizes and who asked for them, the time of a round trip, and
// whether the server takes a new size and all of Unicode.
/* oxlint-disable no-underscore-dangle -- the names are noVNC's; its version is pinned */
import RFB from "@novnc/novnc";

/** Who made the remote screen the size it is; or the server takes none, though it speaks of sizes. */
export type SizeFrom = "server" | "me" | "other" | "refused";

export interface ViewerEvents {
  /** A whole update of the screen is drawn; it took this long from its first byte. */
  frame(ms: number): void;
  /** The server takes sizes, and this is the present one. */
  size(from: SizeFrom): void;
  /** A round trip through the server's queue took this long. */
  roundTrip(ms: number): void;
  /** The server fetches the text that it was told of. */
  taken(): void;
}

// A fence of ours carries this as its payload, so that it is told from the server's own.
const fence = [0x63, 0x62];
const fenceRequest = 0x8000_0000;
const fenceBlockBefore = 1;

export class Viewer extends RFB {
  #tell: ViewerEvents;
  #asked = 0; // when the fence under way was sent; 0: none is
  #began = 0; // when the update under way began to arrive; 0: none is
  #waits = 0; // since when nothing has come though it was asked for; 0: nothing is asked for

  constructor(target: HTMLElement, channel: WebSocket, tell: ViewerEvents) {
    super(target, channel, { shared: true });
    this.#tell = tell;
    // What came may not be the answer to a fence: as long as that is out, the wait begins anew.
    channel.addEventListener("message", () => (this.#waits = this.#asked === 0 ? 0 : performance.now()));
  }

  /** For how long nothing at all has come since the server was asked. */
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

  /** Whether the clipboard carries all of Unicode; else Latin-1 only. */
  get takesUnicode(): boolean {
    return this._clipboardServerCapabilitiesFormats[1] === true;
  }

  releaseKeys() {
    this._keyboard._allKeysUp();
  }

  /** Asks for a round trip, where the server knows how, and roundTrip is told the answer; else for one pixel. */
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
      this.#tell.frame(ms);
    }
    return whole;
  }

  // A panel that is hidden or away from the page has no size to ask for.
  protected override _requestRemoteResize() {
    const { width, height } = this._screen.getBoundingClientRect();
    if (width >= 160 && height >= 120) super._requestRemoteResize();
  }

  protected override _handleExtendedDesktopSize(): boolean {
    const { x, y } = this._FBU; // the reason, and for a request of ours its outcome
    const whole = super._handleExtendedDesktopSize();
    const prohibited = 1;
    if (!whole) return false;
    if (x !== 1) this.#tell.size(x === 2 ? "other" : "server");
    else if (y === 0 || y === prohibited) this.#tell.size(y === 0 ? "me" : "refused");
    return true;
  }

  // noVNC fails on a fence that it did not get as a request; it never sends one itself.
  protected override _handleServerFenceMsg(): boolean {
    const size = 8 + fence.length;
    if (this.#asked !== 0 && !this._sock.rQwait("fence", size)) {
      const b = this._sock.rQpeekBytes(size);
      if ((b[3]! & 0x80) === 0 && b[7] === fence.length && fence.every((f, i) => b[8 + i] === f)) {
        this._sock.rQskipBytes(size);
        this.#tell.roundTrip(performance.now() - this.#asked);
        this.#asked = this.#waits = 0;
        return true;
      }
    }
    return super._handleServerFenceMsg();
  }

  // In view mode noVNC leaves the text of an unasked "provide" unread, and so loses its place in the
  // stream. Reading goes on as if in control: what it would send the server drops, and the text is
  // dropped by who listens.
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
    // A negative length is the extended clipboard's; its first byte says what is wanted.
    if (whole && request && request[3]! >= 0x80 && request[7] === 2) this.#tell.taken();
    return whole;
  }
}
