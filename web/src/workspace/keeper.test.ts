import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Acting, Control } from "@/chat/control";
import { LostError } from "@/chat/requests";
import { empty } from "@/chat/state";
import { Keeper, type Machine } from "./keeper";

const use: Acting = { run: "r", session: "s", calls: ["c"], until: Infinity };

/** A machine that holds like the guest. */
class FakeMachine implements Machine {
  asked: string[] = [];
  silent = false;
  refuses = "";
  #listeners = new Set<() => void>();
  #snapshot: ReturnType<Machine["snapshot"]> = { link: { at: "open", generation: 1, since: 0 }, chat: empty };

  subscribe = (l: () => void) => {
    this.#listeners.add(l);
    return () => void this.#listeners.delete(l);
  };
  snapshot = () => this.#snapshot;

  async control(what: "take" | "give"): Promise<void> {
    this.asked.push(what);
    if (this.silent) return new Promise(() => {});
    await Promise.resolve();
    if (this.refuses) throw new Error(this.refuses);
    this.holder(what === "take" ? "user" : "agent");
  }
  holder(holder: Control["holder"], until = Date.now() + 120_000) {
    this.set({ control: { holder, since: 1, until, ahead: 0, leased: false } });
  }
  acts(acting: Acting[] = [use]) {
    this.set({ acting });
  }
  set(patch: Partial<typeof empty>) {
    this.#snapshot = { ...this.#snapshot, chat: { ...this.#snapshot.chat, ...patch } };
    for (const l of this.#listeners) l();
  }
  disconnect() {
    this.#snapshot = { ...this.#snapshot, link: { at: "idle" } };
  }
}

let machine: FakeMachine;
let keeper: Keeper;
let idle: number;
let stop: () => void;
const after = (ms: number) => vi.advanceTimersByTimeAsync(ms);
const takes = () => machine.asked.filter((a) => a === "take").length;

beforeEach(() => {
  vi.useFakeTimers();
  machine = new FakeMachine();
  idle = 0;
  keeper = new Keeper(machine, () => idle++);
  stop = keeper.start();
  machine.holder("agent");
});
afterEach(() => {
  stop();
  vi.useRealTimers();
});

describe("the offer", () => {
  test("comes when the user clicks while the agent acts, and takes nothing", () => {
    keeper.used("act");
    expect(keeper.getSnapshot().offer).toBe(false);
    machine.acts();
    keeper.used("move");
    expect(keeper.getSnapshot().offer).toBe(false);
    keeper.used("act");
    expect(keeper.getSnapshot().offer).toBe(true);
    expect(machine.asked).toEqual([]);
  });

  test.each<[string, () => void]>([
    ["a machine that can't hold", () => machine.set({ control: undefined })],
    ["a user who has control", () => machine.holder("user")],
    ["a lost connection", () => machine.disconnect()],
  ])("does not come for %s", (_, make) => {
    machine.acts();
    make();
    keeper.used("act");
    expect(keeper.getSnapshot().offer).toBe(false);
  });

  test("goes with the agent's use of the desktop", () => {
    machine.acts();
    keeper.used("act");
    machine.acts([]);
    expect(keeper.getSnapshot().offer).toBe(false);
  });

  test("goes 20 s after the latest click, and stays away for 30 s", async () => {
    machine.acts();
    keeper.used("act");
    await after(15_000);
    keeper.used("act");
    await after(19_999);
    expect(keeper.getSnapshot().offer).toBe(true);
    await after(1);
    expect(keeper.getSnapshot().offer).toBe(false);
    await after(29_000);
    keeper.used("act");
    expect(keeper.getSnapshot().offer).toBe(false);
    await after(1_000);
    keeper.used("act");
    expect(keeper.getSnapshot().offer).toBe(true);
  });

  test("stays while the user is about to decide", async () => {
    machine.acts();
    keeper.used("act");
    await after(15_000);
    keeper.keepOffer();
    await after(15_000);
    expect(keeper.getSnapshot().offer).toBe(true);
  });

  test("stays away for five minutes after Not now", async () => {
    machine.acts();
    keeper.used("act");
    keeper.notNow();
    await after(299_000);
    keeper.used("act");
    expect(keeper.getSnapshot().offer).toBe(false);
    await after(1_000);
    keeper.used("act");
    expect(keeper.getSnapshot().offer).toBe(true);
  });
});

describe("a hold", () => {
  test("is kept at most every 20 s, and only by use", async () => {
    await keeper.take();
    expect(takes()).toBe(1);
    for (let i = 0; i < 190; i++) {
      keeper.used("move");
      await after(100);
    }
    expect(takes()).toBe(1); // 19 s
    await after(1_000);
    expect(takes()).toBe(2); // used since the first
    await after(100_000);
    expect(takes()).toBe(2); // idle
    keeper.used("move");
    await after(0);
    expect(takes()).toBe(3);
  });

  test("taken in another tab is kept by use in this one", async () => {
    machine.holder("user");
    keeper.used("act");
    await after(0);
    expect(takes()).toBe(1);
  });

  test("is not taken back by a use before it was given back", async () => {
    await keeper.take();
    keeper.used("move");
    await keeper.give();
    await after(60_000);
    expect(machine.asked).toEqual(["take", "give"]);
    expect(idle).toBe(0);
  });

  test("is not taken back by a use while it is given back", async () => {
    await keeper.take();
    await after(30_000);
    machine.silent = true;
    void keeper.give();
    keeper.used("move");
    await after(5_000);
    expect(machine.asked).toEqual(["take", "give"]);
  });

  test("that another tab gave back is not taken again", async () => {
    await keeper.take();
    keeper.used("move");
    machine.holder("agent");
    await after(60_000);
    expect(machine.asked).toEqual(["take"]);
    expect(idle).toBe(0);
  });

  test("that ends after two idle minutes is reported once", async () => {
    await keeper.take();
    await after(120_000);
    machine.holder("agent");
    machine.acts();
    expect(idle).toBe(1);
  });

  test("that ends while disconnected is reported after the reconnect", async () => {
    await keeper.take();
    machine.set({ control: undefined });
    await after(130_000);
    machine.holder("agent");
    expect(idle).toBe(1);
  });

  test("asks nothing after the workspace is closed", async () => {
    await keeper.take();
    keeper.used("act");
    stop();
    await after(60_000);
    expect(takes()).toBe(1);
  });
});

describe("a request", () => {
  test("without an answer fails after 10 s", async () => {
    machine.silent = true;
    void keeper.take();
    expect(keeper.getSnapshot().busy).toBe("take");
    void keeper.take(); // one at a time
    expect(machine.asked).toEqual(["take"]);
    await after(10_000);
    expect(keeper.getSnapshot()).toMatchObject({
      busy: undefined,
      problem: "The agent didn't answer; mouse and keyboard are still shared. Try again.",
    });
    machine.holder("user"); // the event came late
    expect(keeper.getSnapshot().problem).toBe("");
  });

  test("whose event came counts as answered", async () => {
    machine.silent = true;
    void keeper.take();
    machine.holder("user");
    await after(10_000);
    expect(keeper.getSnapshot().problem).toBe("");
  });

  test("that was refused shows why", async () => {
    machine.refuses = "The desktop has no screen.";
    await keeper.take();
    expect(keeper.getSnapshot().problem).toBe("The desktop refused. The desktop has no screen.");
    keeper.dismissProblem();
    expect(keeper.getSnapshot().problem).toBe("");
  });

  test("to give back that got lost says that the user still has control", async () => {
    await keeper.take();
    machine.control = () => Promise.reject(new LostError());
    await keeper.give();
    expect(keeper.getSnapshot().problem).toBe("The desktop didn't answer; you still have control. Try again.");
  });
});
