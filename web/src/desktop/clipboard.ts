// One clipboard for both sides. Text copied on the desktop while it has the focus goes to the browser's clipboard
// immediately, or at the next gesture if the browser requires one. Text that a program copies at other times is only
// offered, because it must not replace what the user copied elsewhere. Text from this device goes to the desktop with
// the paste gesture. If the user chose so for this desktop, it also goes when the desktop gets the focus. Only the user's
// own action asks for a permission.

export const limit = 1 << 20; // bytes of UTF-8, either direction

export type MayRead = "granted" | "prompt" | "denied" | "unknown";

export interface LocalClipboard {
  /** Calls changed, too, whenever the answer has changed. */
  mayRead(changed?: (now: MayRead) => void): Promise<MayRead>;
  read(): Promise<string>;
  write(text: string): Promise<void>;
}

export interface RemoteClipboard {
  readonly takesUnicode: boolean;
  send(text: string): void;
}

/** The outcome of sending a text to the desktop. none: there was no text, or no desktop. */
export type Sent = "sent" | "same" | "long" | "none";

export type ClipboardProblem =
  | { kind: "long"; from: "here" }
  | { kind: "long"; from: "desktop"; bytes: number } // 0: unknown
  | { kind: "lost"; characters: string[] }
  | { kind: "revoked" }; // the browser's clipboard may no longer be read, so automatic is off

export interface ClipboardState {
  /** The last transferred text, in either direction. */
  text: string;
  from: "none" | "desktop" | "here";
  /** The desktop's text is not in this browser's clipboard yet. */
  waiting: boolean;
  mayRead: MayRead;
  /** The browser's clipboard is read and sent whenever the desktop gets the focus. */
  automatic: boolean;
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
    automatic: false,
    latinOnly: undefined,
    problem: undefined,
  };
  #remote: RemoteClipboard | undefined;
  #shared: string | undefined; // what both sides are known to hold
  #here: string | undefined; // the last known text of the browser's clipboard
  #newer = false; // the desktop holds a text that the browser could not get, and it is newer
  #older: (string | undefined)[] = []; // texts that the browser had before that
  #storageKey: string | undefined;
  #retry = false; // the next gesture may write
  #reading = false;
  #watched = false; // what the browser allows

  readonly #local: LocalClipboard;
  readonly #changed: () => void;

  constructor(local: LocalClipboard, changed: () => void) {
    this.#local = local;
    this.#changed = changed;
  }

  /** Restores what the user chose for this desktop. */
  restore(desktop: string) {
    this.#storageKey = `cloudbot.clipboard.${desktop}`;
    try {
      this.#set({ automatic: localStorage.getItem(this.#storageKey) === "automatic" });
    } catch {
      // Private windows may refuse.
    }
  }

  connected(remote: RemoteClipboard) {
    this.#remote = remote;
    this.#shared = this.#here = undefined;
    this.#older = [];
    this.#newer = false;
    this.#set({ latinOnly: undefined });
    const may = (mayRead: MayRead) => this.#may(mayRead);
    void this.#local.mayRead(this.#watched ? undefined : may).then(may);
    this.#watched = true;
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
      this.missed(size(text), focused);
      return;
    }
    this.#shared = text;
    this.#older = [];
    this.#newer = false;
    this.#retry = focused;
    this.#set({ text, from: "desktop", waiting: true, problem: undefined });
    if (focused) await this.take();
  }

  /** A text copied on the desktop is too long to get here: what is here is older. bytes: 0 if unknown. */
  missed(bytes: number, focused: boolean) {
    this.#newer = focused;
    this.#older = focused ? [this.#here, this.#shared] : [];
    this.#shared = undefined;
    this.#retry = false;
    this.#set({ waiting: false, problem: { kind: "long", from: "desktop", bytes } });
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
    this.#newer = false; // the user may have copied something elsewhere
    if (this.#retry) return this.gesture(); // the desktop's text is newer
    if (!this.state.automatic) return;
    this.#may(await this.#local.mayRead());
    if (this.state.automatic) await this.#read();
  }

  /** Nothing is read without permission, so automatic ends with it. */
  #may(mayRead: MayRead) {
    if (mayRead === "granted" || !this.state.automatic) return this.#set({ mayRead });
    this.#set({ mayRead, automatic: false, problem: { kind: "revoked" } });
    this.#store();
  }

  /** Reads the browser's clipboard whenever the desktop gets the focus, or no longer. Asks for permission: no other code does. */
  async setAutomatic(on: boolean): Promise<void> {
    if (on) {
      await this.#read();
      this.#set({ mayRead: await this.#local.mayRead() });
    }
    const automatic = on && this.state.mayRead === "granted";
    this.#set({ automatic, problem: this.state.problem?.kind === "revoked" ? undefined : this.state.problem });
    this.#store();
  }

  #store() {
    try {
      if (this.#storageKey === undefined) return;
      if (this.state.automatic) localStorage.setItem(this.#storageKey, "automatic");
      else localStorage.removeItem(this.#storageKey);
    } catch {
      // Private windows may refuse. The choice then lasts as long as the page.
    }
  }

  /** Sends text to the desktop; not if the desktop has it, or a newer one, unless the user asks for exactly this text. */
  send(text: string, exactly = false): Sent {
    if (text === "" || !this.#remote) return "none";
    if (!exactly) {
      if (this.#newer) this.#older.push(text);
      // Sending a text twice does no harm, and some servers lose the first.
      if (this.#older.includes(text) || (text === this.#shared && this.state.from === "desktop")) return "same";
    }
    if (size(text) > limit) {
      this.#set({ problem: { kind: "long", from: "here" } });
      return "long";
    }
    const lost = this.#remote.takesUnicode ? [] : beyondLatin(text);
    this.#remote.send(text);
    this.#shared = text;
    this.#older = [];
    this.#newer = false;
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
  async mayRead(changed) {
    try {
      const status = await navigator.permissions.query({ name: "clipboard-read" as PermissionName });
      if (changed) status.addEventListener("change", () => changed(status.state));
      return status.state;
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
