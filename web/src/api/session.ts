// The signed-in session, shared by the tabs of this browser. The refresh token is good once, so
// tabs take turns: whoever comes second finds the first one's new tokens instead of asking.
import { newID } from "./id";

type Tokens = {
  access: string;
  refresh: string;
  expires: number;
  /** Another one with each log-in: a page tells by it that these are not the tokens it began with. */
  login: string;
};
type Answer = { access_token: string; refresh_token: string; expires_in: number; device_token?: string };

const storageKey = "cloudbot.session";
const deviceKey = "cloudbot.device"; // outlives a log-out
const early = 30_000; // ms before its end that an access token is exchanged
const patience = 15_000; // ms for an exchange: all tabs wait for it

export type SessionState = {
  /** Whose pages these are; undefined: nobody is signed in. It changes where somebody else logs in. */
  login: string | undefined;
  /** Why it ended, where that was not asked for. */
  ended?: string;
  /** It was asked for: who logs in next begins at the beginning. */
  left?: boolean;
};

class SessionStore {
  #listeners = new Set<() => void>();
  #state: SessionState = { login: read()?.login };
  #refreshing: Promise<string | undefined> | undefined;

  /** Notices what other tabs do: call it once. */
  watch() {
    addEventListener("storage", (e) => {
      if (e.key === storageKey || e.key === null) this.#mine();
    });
    addEventListener("pageshow", () => this.#mine()); // kept by "Back", it heard of nothing
  }

  /** The tokens, where they are those of this page's log-in. If not, the page is told. */
  #mine(): Tokens | undefined {
    const now = read();
    if (now?.login === this.#state.login) return now;
    this.#set({ login: now?.login });
    return undefined;
  }

  subscribe = (listener: () => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
  getSnapshot = () => this.#state;

  #set(state: SessionState) {
    this.#state = state;
    for (const l of this.#listeners) l();
  }

  /** Takes the tokens of a log-in or sign-up. */
  start(answer: Answer) {
    if (answer.device_token) localStorage.setItem(deviceKey, answer.device_token);
    const { login } = write(answer, newID());
    this.#set({ login });
  }

  /** What the next log-in sends, so that wrong passwords from elsewhere never keep this browser out. */
  deviceToken(): string | null {
    return localStorage.getItem(deviceKey);
  }

  /** Forgets the tokens; reason is shown on the log-in page. Without one, it was asked for. */
  end(reason?: string) {
    if (!this.#mine()) return; // another tab was faster
    localStorage.removeItem(storageKey);
    this.#set(reason ? { login: undefined, ended: reason } : { login: undefined, left: true });
  }

  /** An access token that is good for a while yet; undefined: nobody is signed in. */
  async token(): Promise<string | undefined> {
    const now = this.#mine();
    if (!now) return undefined;
    if (now.expires - Date.now() > early) return now.access;
    return (await this.refresh(now.access)) ?? now.access;
  }

  /** Exchanges the tokens, once for all callers of all tabs; stale is the access token that was refused. */
  refresh(stale: string): Promise<string | undefined> {
    this.#refreshing ??= inTurn(() => this.#exchange(stale)).finally(() => (this.#refreshing = undefined));
    return this.#refreshing;
  }

  async #exchange(stale: string): Promise<string | undefined> {
    let now = this.#mine();
    if (now?.access === stale) {
      // What another tab wrote just now, in its turn, takes a moment until it is seen here.
      await new Promise((resolve) => setTimeout(resolve, seenWithin));
      now = this.#mine();
    }
    if (!now) return undefined;
    if (now.access !== stale) return now.access; // another tab was faster
    try {
      const response = await fetch("/api/auth/refresh", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ refresh_token: now.refresh }),
        signal: AbortSignal.timeout(patience),
      });
      const answer = response.ok ? ((await response.json()) as Answer) : undefined;
      // A log-out, or another log-in, may have come in between: then this is not wanted any more.
      const present = this.#mine();
      if (present?.refresh !== now.refresh) return present?.access;
      if (answer) return write(answer, now.login).access;
      if (response.status === 401 || response.status === 422) this.end("Your session has ended. Log in again.");
    } catch {
      // no way to the server: still signed in
    }
    return undefined;
  }
}

const seenWithin = 100; // ms

function inTurn<T>(f: () => Promise<T>): Promise<T> {
  // Locks exist in secure contexts only; without them the server's grace for parallel tabs has to do.
  return navigator.locks ? (navigator.locks.request("cloudbot.refresh", f) as Promise<T>) : f();
}

function read(): Tokens | undefined {
  try {
    const t = JSON.parse(localStorage.getItem(storageKey) ?? "null") as Tokens | null;
    if (
      t &&
      typeof t.access === "string" &&
      typeof t.refresh === "string" &&
      typeof t.expires === "number" &&
      typeof t.login === "string"
    )
      return t;
  } catch {
    // not ours
  }
  return undefined;
}

function write(answer: Answer, login: string): Tokens {
  const t = {
    login,
    access: answer.access_token,
    refresh: answer.refresh_token,
    expires: Date.now() + answer.expires_in * 1000,
  };
  localStorage.setItem(storageKey, JSON.stringify(t));
  return t;
}

export const session = new SessionStore();
