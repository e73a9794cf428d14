// The log-in session, shared by the tabs of this browser. A refresh token is valid once, so tabs take turns: the second
// tab finds the first one's new tokens and does not ask.
import { newID } from "./id";

type Tokens = {
  access: string;
  refresh: string;
  expires: number;
  /** Changes with each log-in: a page compares it to see whether these are the tokens it started with. */
  login: string;
};
type Answer = { access_token: string; refresh_token: string; expires_in: number; device_token?: string };

const storageKey = "cloudbot.session";
const deviceKey = "cloudbot.device"; // kept after log-out
const early = 30_000; // ms before its expiry that an access token is exchanged
const patience = 15_000; // ms for an exchange: all tabs wait for it

export type SessionState = {
  /** The log-in that the pages belong to; undefined: logged out. It changes if another account logs in. */
  login: string | undefined;
  /** Why the session ended, if the user did not ask for it. */
  ended?: string;
  /** The user asked to log out: the next log-in starts at the first page. */
  left?: boolean;
};

class SessionStore {
  #listeners = new Set<() => void>();
  #state: SessionState = { login: read()?.login };
  #refreshing: Promise<string | undefined> | undefined;

  /** Watches for changes by other tabs; call it once. */
  watch() {
    addEventListener("storage", (e) => {
      if (e.key === storageKey || e.key === null) this.#mine();
    });
    addEventListener("pageshow", () => this.#mine()); // a page restored by "Back" received no events
  }

  /** Returns the tokens if they belong to this page's log-in. If not, it updates the page. */
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

  /** Stores the tokens of a log-in or sign-up. */
  start(answer: Answer) {
    if (answer.device_token) localStorage.setItem(deviceKey, answer.device_token);
    const { login } = write(answer, newID());
    this.#set({ login });
  }

  /** What the next log-in sends, so that wrong passwords from elsewhere never lock this browser out. */
  deviceToken(): string | null {
    return localStorage.getItem(deviceKey);
  }

  /** Deletes the tokens. The log-in page shows the reason; without one, the user asked to log out. */
  end(reason?: string) {
    if (!this.#mine()) return; // another tab was faster
    localStorage.removeItem(storageKey);
    this.#set(reason ? { login: undefined, ended: reason } : { login: undefined, left: true });
  }

  /** Returns an access token that stays valid for a while; undefined: logged out. */
  async token(): Promise<string | undefined> {
    const now = this.#mine();
    if (!now) return undefined;
    if (now.expires - Date.now() > early) return now.access;
    return (await this.refresh(now.access)) ?? now.access;
  }

  /** Exchanges the tokens, once for all callers in all tabs. stale is the access token that was refused. */
  refresh(stale: string): Promise<string | undefined> {
    this.#refreshing ??= inTurn(() => this.#exchange(stale)).finally(() => (this.#refreshing = undefined));
    return this.#refreshing;
  }

  async #exchange(stale: string): Promise<string | undefined> {
    let now = this.#mine();
    if (now?.access === stale) {
      // Tokens that another tab has written during its turn become visible here after a short delay.
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
      // The user may have logged out or in again meanwhile: then these tokens are not used.
      const present = this.#mine();
      if (present?.refresh !== now.refresh) return present?.access;
      if (answer) return write(answer, now.login).access;
      if (response.status === 401 || response.status === 422) this.end("Your session has ended. Log in again.");
    } catch {
      // the server cannot be reached: still logged in
    }
    return undefined;
  }
}

const seenWithin = 100; // ms

function inTurn<T>(f: () => Promise<T>): Promise<T> {
  // Locks exist only in secure contexts. Without them, the server's grace period for parallel tabs must suffice.
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
    // not written by the dashboard
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
