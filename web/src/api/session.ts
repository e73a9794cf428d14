// The signed-in session, shared by the tabs of this browser. The refresh token is good once, so
// tabs take turns: whoever comes second finds the first one's new tokens instead of asking.
type Tokens = { access: string; refresh: string; expires: number };

const storageKey = "cloudbot.session";
const early = 30_000; // ms before its end that an access token is exchanged

export type SessionState = { signedIn: boolean; /** Why it ended, where that was not asked for. */ ended?: string };

class SessionStore {
  #listeners = new Set<() => void>();
  #state: SessionState = { signedIn: read() !== undefined };
  #refreshing: Promise<string | undefined> | undefined;

  /** Notices what other tabs do: call it once. */
  watch() {
    addEventListener("storage", (e) => {
      if (e.key !== storageKey && e.key !== null) return;
      const signedIn = read() !== undefined;
      if (signedIn !== this.#state.signedIn) this.#set({ signedIn });
    });
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
  start(answer: { access_token: string; refresh_token: string; expires_in: number }) {
    write(answer);
    this.#set({ signedIn: true });
  }

  /** Forgets the tokens; reason is shown on the log-in page. */
  end(reason?: string) {
    localStorage.removeItem(storageKey);
    if (this.#state.signedIn) this.#set(reason ? { signedIn: false, ended: reason } : { signedIn: false });
  }

  /** An access token that is good for a while yet; undefined: nobody is signed in. */
  async token(): Promise<string | undefined> {
    const now = read();
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
    const now = read();
    if (!now) return undefined;
    if (now.access !== stale) return now.access; // another tab was faster
    let response: Response;
    try {
      response = await fetch("/api/auth/refresh", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ refresh_token: now.refresh }),
      });
    } catch {
      return undefined; // no way to the server: still signed in
    }
    if (response.ok) {
      const answer = (await response.json()) as { access_token: string; refresh_token: string; expires_in: number };
      // A log-out, or another account's log-in, may have come in between: then this is not wanted any more.
      if (read()?.refresh !== now.refresh) return read()?.access;
      return write(answer).access;
    }
    if (response.status === 401 || response.status === 422) {
      const present = read();
      if (present && present.refresh !== now.refresh) return present.access;
      this.end("Your session has ended. Log in again.");
    }
    return undefined;
  }
}

function inTurn<T>(f: () => Promise<T>): Promise<T> {
  // Locks exist in secure contexts only; without them the server's grace for parallel tabs has to do.
  return navigator.locks ? navigator.locks.request("cloudbot.refresh", f) as Promise<T> : f();
}

function read(): Tokens | undefined {
  try {
    const t = JSON.parse(localStorage.getItem(storageKey) ?? "null") as Tokens | null;
    if (t && typeof t.access === "string" && typeof t.refresh === "string" && typeof t.expires === "number") return t;
  } catch {
    // not ours
  }
  return undefined;
}

function write(answer: { access_token: string; refresh_token: string; expires_in: number }): Tokens {
  const t = { access: answer.access_token, refresh: answer.refresh_token, expires: Date.now() + answer.expires_in * 1000 };
  localStorage.setItem(storageKey, JSON.stringify(t));
  return t;
}

export const session = new SessionStore();
