// The notifications of the browser's system, one for each desktop that waits.
import { clockTime } from "@/ui/time";
import { permission } from "./permission";
import { joinTabs } from "./tabs";
import { newWaiting, words, type Waiting } from "./waiting";

export class Notifications {
  #shown = new Map<string, Notification>();
  #waiting: readonly Waiting[] = [];
  #fresh = newWaiting();
  #tabs: ReturnType<typeof joinTabs>;
  #open: (id: string) => void;

  /** open shows the chat of a desktop. */
  constructor(login: string, open: (id: string) => void) {
    this.#tabs = joinTabs(login);
    this.#open = open;
    addEventListener("pagehide", this.#clear); // without its page, a notification opens nothing
  }

  /** Shows what is new if the user cannot see it, and closes what no longer waits. */
  async update(now: readonly Waiting[]) {
    this.#waiting = now;
    for (const [id, n] of this.#shown) if (!now.some((w) => w.id === id)) this.#close(id, n);
    const fresh = this.#fresh(now);
    if (fresh.length === 0 || permission() !== "on" || !(await this.#tabs.mayNotify())) return;
    for (const w of fresh) if (this.#waiting.some((still) => still.id === w.id)) this.#show(w);
  }

  stop() {
    removeEventListener("pagehide", this.#clear);
    this.#tabs.stop();
    this.#clear();
  }

  #show({ id, name, until }: Waiting) {
    const n = new Notification(words(name), {
      tag: `cloudbot.${id}`, // replaces an earlier one, also of another tab
      icon: "/app/icon.svg",
      ...(until === undefined ? {} : { body: `Answer before ${clockTime(new Date(until).toISOString(), true)}.` }),
    });
    n.addEventListener("click", () => {
      window.focus();
      this.#open(id);
      n.close();
    });
    this.#shown.set(id, n);
  }

  #close(id: string, n: Notification) {
    this.#shown.delete(id);
    n.close();
  }

  #clear = () => {
    for (const [id, n] of this.#shown) this.#close(id, n);
  };
}
