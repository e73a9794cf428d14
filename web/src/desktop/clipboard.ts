// One clipboard for both sides. Text copied on the desktop while it has the focus goes to the browser's clipboard
// immediately, or at the next gesture if the browser requires one. Text that a program copies at other times is only
// offered, because it must not replace what the user copied elsewhere. Text from this device goes to the desktop when
// the desktop gets the focus, if reading is allowed, and always with the paste gesture. Only the user's own action asks
// for a permission.

export const limit = 1 << 20; // bytes of UTF-8, either direction

export type MayRead = "granted" | "prompt" | "denied" | "unknown";

export interface LocalClipboard {
  mayRead(): Promise<MayRead>;
  read(): Promise<string>;
  write(text: string): Promise<void>;
}

export interface RemoteClipboard {
  readonly takesUnicode: boolean;
  send(text: string): void;
}

/** The outcome of sending a text to the desktop. none: there was no text, or no desktop. */
export type Sent = "sent" | "same" | "long" | "none";

export type ClipboardProblem = { kind: "long"; from: "desktop" | "here" } | { kind: "lost"; characters: string[] };

export interface ClipboardState {
  /** The last transferred text, in either direction. */
  text: string;
  from: "none" | "desktop" | "here";
  /** The desktop's text is not in this browser's clipboard yet. */
  waiting: boolean;
  mayRead: MayRead;
  /** The desktop accepts only Western European letters; undefined: not connected. */
  latinOnly: boolean | undefined;
  problem: ClipboardProblem | undefined;
}

export class ClipboardSync {
  state: ClipboardState = {
    text: "",
    from: "none",
    waiting: false,
    mayRead: "unknown",
    latinOnly: undefined,
    problem: undefined,
  };
  #remote: RemoteClipboard | undefined;
  #shared: string | undefined; // what both sides are known to hold
  #here: string | undefined; // the last known text of the browser's clipboard
  #retry = false; // the next gesture may write
  #reading = false;

  readonly #local: LocalClipboard;
  readonly #changed: () => void;

  constructor(local: LocalClipboard, changed: () => void) {
    this.#local = local;
    this.#changed = changed;
  }

  connected(remote: RemoteClipboard) {
    this.#remote = remote;
    this.#shared = this.#here = undefined;
    this.#set({ latinOnly: undefined });
    void this.#local.mayRead().then((mayRead) => this.#set({ mayRead }));
  }

  disconnected() {
    this.#remote = undefined;
    this.#set({ latinOnly: undefined });
  }

  /** Updates what the server supports, which is known only some time after connecting. */
  look() {
    if (this.#remote) this.#set({ latinOnly: !this.#remote.takesUnicode });
  }

  /** focused: the desktop has the focus, so the user made the copy. */
  async fromDesktop(received: string, focused: boolean): Promise<void> {
    const text = repaired(received);
    if (text === this.#shared) return;
    if (size(text) > limit) {
      this.#set({ problem: { kind: "long", from: "desktop" } });
      return;
    }
    this.#shared = text;
    this.#retry = focused;
    this.#set({ text, from: "desktop", waiting: true, problem: undefined });
    if (focused) await this.take();
  }

  /** Puts the desktop's text into the browser's clipboard; false: the browser refused. */
  async take(): Promise<boolean> {
    const { text } = this.state;
    try {
      await this.#local.write(text);
    } catch {
      return false; // not focused, or no gesture
    }
    this.#here = text;
    if (this.state.text === text) {
      this.#retry = false;
      this.#set({ waiting: false });
    }
    return true;
  }

  /** The user pressed a key or button on the desktop: a browser that refused to write may allow it now. */
  async gesture(): Promise<void> {
    if (this.#retry) await this.take();
  }

  /** The desktop has received the focus: it receives the text that was copied elsewhere meanwhile. */
  async focused(): Promise<void> {
    if (this.#retry) return this.gesture(); // the desktop's text is newer
    this.#set({ mayRead: await this.#local.mayRead() });
    if (this.state.mayRead === "granted") await this.#read();
  }

  /** Asks for permission to read, at the user's request. No other code asks. */
  async allow(): Promise<void> {
    await this.#read();
    this.#set({ mayRead: await this.#local.mayRead() });
  }

  /** Sends text to the desktop. */
  send(text: string): Sent {
    if (text === "" || !this.#remote) return "none";
    if (text === this.#shared) return "same";
    if (size(text) > limit) {
      this.#set({ problem: { kind: "long", from: "here" } });
      return "long";
    }
    const lost = this.#remote.takesUnicode ? [] : beyondLatin(text);
    this.#remote.send(text);
    this.#shared = text;
    this.#retry = false;
    this.#set({
      text,
      from: "here",
      waiting: false,
      problem: lost.length > 0 ? { kind: "lost", characters: lost } : undefined,
    });
    return "sent";
  }

  async #read(): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    try {
      const text = await this.#local.read();
      const isNew = text !== this.#here;
      this.#here = text;
      if (isNew && !this.#retry) this.send(text);
    } catch {
      // refused, or not text
    } finally {
      this.#reading = false;
    }
  }

  #set(patch: Partial<ClipboardState>) {
    const next = { ...this.state, ...patch };
    if (Object.keys(patch).every((k) => next[k as keyof ClipboardState] === this.state[k as keyof ClipboardState]))
      return;
    this.state = next;
    this.#changed();
  }
}

/** Returns the characters that Latin-1 lacks, each once. */
export const beyondLatin = (text: string): string[] => [...new Set([...text].filter((c) => c.codePointAt(0)! > 0xff))];

/** Some servers (x11vnc) send UTF-8 instead of Latin-1. Latin-1 text that is valid UTF-8 is very rare. */
export function repaired(text: string): string {
  const most = [...text].reduce((max, c) => Math.max(max, c.codePointAt(0)!), 0);
  if (most < 0x80 || most > 0xff) return text;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      Uint8Array.from(text, (c) => c.charCodeAt(0)),
    );
  } catch {
    return text;
  }
}

const size = (text: string) => (text.length * 3 <= limit ? text.length : new TextEncoder().encode(text).length);

export const browserClipboard: LocalClipboard = {
  async mayRead() {
    try {
      return (await navigator.permissions.query({ name: "clipboard-read" as PermissionName })).state;
    } catch {
      return "unknown"; // the browser does not know this permission
    }
  },
  async read() {
    return navigator.clipboard.readText();
  },
  async write(text) {
    await navigator.clipboard.writeText(text);
  },
};
