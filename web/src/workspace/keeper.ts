// What the user decides about the desktop's mouse and keyboard: it offers to take them, keeps them while they are used,
// and notices when they go back to the agent. It lives as long as the workspace; read its state with
// useSyncExternalStore.
import type { Snapshot } from "@/chat/connection";
import type { Control } from "@/chat/control";
import { LostError } from "@/chat/requests";

/** The connection to the machine: a ChatConnection. */
export interface Machine {
  subscribe: (listener: () => void) => () => void;
  snapshot: () => Pick<Snapshot, "link" | "chat">;
  control(what: "take" | "give"): Promise<void>;
}

export interface KeeperState {
  /** The user uses the desktop while the agent does. */
  offer: boolean;
  /** The machine has not answered yet. */
  busy: "take" | "give" | undefined;
  /** Why the latest request failed. */
  problem: string;
}

const renewEvery = 20_000; // ms between two requests that keep the hold
const answerWithin = 10_000;
const offerFor = 20_000;
const quietAfterOffer = 30_000;
const quietAfterRefusal = 300_000;
const nearEnd = 5_000; // ms by which the machine's clock and this one may differ

export class Keeper {
  readonly #machine: Machine;
  readonly #onIdle: () => void;
  #state: KeeperState = { offer: false, busy: undefined, problem: "" };
  #listeners = new Set<() => void>();
  #held: Control | undefined; // as last known, while the user holds
  #asked = -Infinity; // when the latest request to take was sent
  #renewal: ReturnType<typeof setTimeout> | undefined;
  #offerEnd: ReturnType<typeof setTimeout> | undefined;
  #quietUntil = 0;

  /** Calls onIdle when the machine has ended the hold because the user was idle. */
  constructor(machine: Machine, onIdle: () => void) {
    this.#machine = machine;
    this.#onIdle = onIdle;
  }

  /** start follows the machine until the returned function is called. */
  start(): () => void {
    const leave = this.#machine.subscribe(() => this.#changed());
    this.#changed();
    return () => {
      leave();
      clearTimeout(this.#renewal);
      this.#renewal = undefined;
      this.#withdraw();
    };
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
  getSnapshot = (): KeeperState => this.#state;

  /** used is to be called whenever the user uses the desktop: "act" is more than moving the pointer. */
  used(use: "move" | "act"): void {
    const { link, chat } = this.#machine.snapshot();
    if (link.at !== "open") return;
    if (chat.control?.holder === "user") this.#renewSoon();
    else if (chat.control && use === "act" && chat.acting.length > 0) this.#offer();
  }

  async take(): Promise<void> {
    this.#withdraw();
    await this.#ask("take", "The agent didn't answer; mouse and keyboard are still shared. Try again.");
  }

  async give(): Promise<void> {
    clearTimeout(this.#renewal);
    this.#renewal = undefined;
    await this.#ask("give", "The desktop didn't answer; you still have control. Try again.");
  }

  /** notNow withdraws the offer for a while. */
  notNow(): void {
    this.#withdraw();
    this.#quietUntil = Date.now() + quietAfterRefusal;
  }

  /** keepOffer gives a user who has reached the offer the full time to decide. */
  keepOffer(): void {
    if (this.#state.offer) this.#lapseLater();
  }

  dismissProblem(): void {
    this.#set({ problem: "" });
  }

  async #ask(what: "take" | "give", silence: string): Promise<void> {
    if (this.#state.busy) return;
    this.#set({ busy: what, problem: "" });
    let problem = "";
    let late: ReturnType<typeof setTimeout> | undefined;
    const silent = new Promise<never>((_, reject) => {
      late = setTimeout(() => reject(new LostError()), answerWithin);
    });
    if (what === "take") this.#asked = Date.now();
    try {
      await Promise.race([this.#machine.control(what), silent]);
    } catch (error) {
      problem = error instanceof LostError ? silence : `The desktop refused. ${(error as Error).message}`;
    }
    clearTimeout(late);
    // The event may have come although the answer did not.
    if ((this.#machine.snapshot().chat.control?.holder === "user") === (what === "take")) problem = "";
    this.#set({ busy: undefined, problem });
  }

  /** renewSoon keeps the hold: immediately, or when the pause since the latest request is over. */
  #renewSoon(): void {
    this.#renewal ??= setTimeout(
      () => {
        this.#renewal = undefined;
        if (this.#held === undefined || this.#state.busy === "give") return;
        this.#asked = Date.now();
        this.#machine.control("take").catch(() => undefined); // the hold then ends, and the event reports it
      },
      Math.max(0, this.#asked + renewEvery - Date.now()),
    );
  }

  #offer(): void {
    if (this.#state.busy || Date.now() < this.#quietUntil) return;
    this.#set({ offer: true });
    this.#lapseLater();
  }

  #lapseLater(): void {
    clearTimeout(this.#offerEnd);
    this.#offerEnd = setTimeout(() => {
      this.#withdraw();
      this.#quietUntil = Date.now() + quietAfterOffer;
    }, offerFor);
  }

  #withdraw(): void {
    clearTimeout(this.#offerEnd);
    this.#set({ offer: false });
  }

  #changed(): void {
    const { control, acting } = this.#machine.snapshot().chat;
    if (acting.length === 0 || control?.holder !== "agent") this.#withdraw();
    if (control?.holder === "user") {
      this.#held = control;
      if (this.#state.busy !== "give") this.#set({ problem: "" });
      return;
    }
    if (control === undefined) return; // not known until the machine reports it after a reconnect
    const before = this.#held;
    this.#held = undefined;
    clearTimeout(this.#renewal);
    this.#renewal = undefined;
    if (before && this.#state.busy !== "give" && Date.now() >= before.until - nearEnd) this.#onIdle();
  }

  #set(patch: Partial<KeeperState>): void {
    const next = { ...this.#state, ...patch };
    if (next.offer === this.#state.offer && next.busy === this.#state.busy && next.problem === this.#state.problem)
      return;
    this.#state = next;
    for (const listener of this.#listeners) listener();
  }
}
