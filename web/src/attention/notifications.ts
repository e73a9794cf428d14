// The notifications of the browser's system, one for each desktop that waits.
import { clockTime } from "@/ui/time";
import { permission } from "./permission";
import { joinTabs } from "./tabs";
import { keyOf, newWaiting, words, type Waiting } from "./waiting";

export class Notifications {
  #shown = new Map<string, Notification>(); // by keyOf
  #waiting: readonly Waiting[] = [];
  #fresh = newWaiting();
  #tabs: ReturnType<typeof joinTabs>;
  #open: (of: Waiting) => void;

  /** open shows the desktop, or its chat. */
  constructor(login: string, open: (of: Waiting) => void) {
    this.#tabs = joinTabs(login);
    this.#open = open;
    addEventListener("pagehide", this.#clear); // without its page, a notification opens nothing
  }

  /** Shows what is new if the user cannot see it, and closes what no longer waits. */
  async update(now: readonly Waiting[]) {
    this.#waiting = now;
    for (const [key, n] of this.#shown) if (!now.some((w) => keyOf(w) === key)) this.#close(key, n);
    const fresh = this.#fresh(now);
    if (fresh.length === 0 || permission() !== "on" || !(await this.#tabs.mayNotify())) return;
    for (const w of fresh) if (this.#waiting.some((still) => keyOf(still) === keyOf(w))) this.#show(w);
  }

  stop() {
    removeEventListener("pagehide", this.#clear);
    this.#tabs.stop();
    this.#clear();
  }

  #show(w: Waiting) {
    const time = w.until === undefined ? undefined : clockTime(new Date(w.until).toISOString(), true);
    const n = new Notification(words(w), {
      tag: `cloudbot.${keyOf(w)}`, // replaces an earlier one, also of another tab
      icon: "/app/icon.svg",
      ...(time === undefined
        ? {}
        : { body: w.stops ? `It stops at ${time} unless you keep it running.` : `Answer before ${time}.` }),
    });
    n.addEventListener("click", () => {
      window.focus();
      this.#open(w);
      n.close();
    });
    this.#shown.set(keyOf(w), n);
  }

  #close(key: string, n: Notification) {
    this.#shown.delete(key);
    n.close();
  }

  #clear = () => {
    for (const [key, n] of this.#shown) this.#close(key, n);
  };
}
