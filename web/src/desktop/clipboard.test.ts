import { beforeEach, describe, expect, it, vi } from "vitest";
import { beyondLatin, ClipboardSync, limit, repaired, type MayRead } from "./clipboard";

let local: {
  text: string;
  may: MayRead;
  refuses: boolean;
  reads: number;
  changed?: ((now: MayRead) => void) | undefined;
};
let desktop: { text: string; sent: number; takesUnicode: boolean };
let sync: ClipboardSync;

beforeEach(() => {
  local = { text: "", may: "granted", refuses: false, reads: 0 };
  desktop = { text: "", sent: 0, takesUnicode: true };
  sync = new ClipboardSync(
    {
      mayRead: async (changed) => {
        local.changed ??= changed;
        return local.may;
      },
      read: async () => {
        local.reads++;
        if (local.may === "denied") throw new Error("NotAllowedError");
        return local.text;
      },
      write: async (text) => {
        if (local.refuses) throw new Error("NotAllowedError");
        local.text = text;
      },
    },
    () => {},
  );
  connect();
});

const connect = () =>
  sync.connected({
    get takesUnicode() {
      return desktop.takesUnicode;
    },
    send: (text) => {
      desktop.text = text;
      desktop.sent++;
    },
  });

describe("from the desktop", () => {
  it("is written immediately if the browser allows it", async () => {
    await sync.fromDesktop("größer 😀", true);
    expect(local.text).toBe("größer 😀");
    expect(sync.state).toMatchObject({ from: "desktop", waiting: false });
  });

  it("otherwise waits for a gesture, and is offered meanwhile", async () => {
    local.refuses = true;
    await sync.fromDesktop("later", true);
    expect(sync.state).toMatchObject({ text: "later", waiting: true });
    local.refuses = false;
    await sync.gesture();
    expect(local.text).toBe("later");
    expect(sync.state.waiting).toBe(false);
  });

  it("is not overwritten by older text from here when the desktop gets the focus", async () => {
    local.text = "old";
    local.refuses = true;
    await sync.fromDesktop("new", true);
    local.refuses = false;
    await sync.focused();
    expect([local.text, desktop.sent]).toEqual(["new", 0]);
  });

  it("is only offered when the desktop has no focus, and replaces nothing", async () => {
    local.text = "mine";
    await sync.fromDesktop("a program's", false);
    await sync.gesture();
    expect([local.text, sync.state.waiting]).toEqual(["mine", true]);
    expect(await sync.take()).toBe(true);
    expect([local.text, sync.state.waiting]).toEqual(["a program's", false]);
  });

  it("stays on the desktop when it gets the focus and nothing was copied here", async () => {
    await sync.setAutomatic(true);
    local.text = "mine";
    await sync.focused();
    await sync.fromDesktop("a program's", false);
    await sync.focused();
    expect(desktop.text).toBe("mine");
    expect(desktop.sent).toBe(1);
    local.text = "newer";
    await sync.focused();
    expect([desktop.text, sync.state.waiting]).toEqual(["newer", false]);
  });

  it("is not replaced by the browser's older text if it was too long to get here", async () => {
    sync.send("old");
    await sync.fromDesktop("older still", true);
    sync.missed(3_000_000, true);
    expect(sync.state.problem).toEqual({ kind: "long", from: "desktop", bytes: 3_000_000 });
    expect(sync.send("unknown here")).toBe("same"); // the browser's, since before the copy
    await sync.focused();
    expect([sync.send("unknown here"), sync.send("older still")]).toEqual(["same", "same"]);
    expect(sync.send("copied elsewhere meanwhile")).toBe("sent");
  });

  it("is replaced by the browser's text if a program copied it, or the user asks for that", async () => {
    sync.send("mine");
    sync.missed(0, false);
    expect(sync.send("mine")).toBe("sent");
    sync.missed(0, true);
    expect(sync.send("mine", true)).toBe("sent");
  });

  it("is not sent back to its origin", async () => {
    await sync.setAutomatic(true);
    await sync.fromDesktop("once", true);
    await sync.focused();
    sync.send("once");
    expect(desktop.sent).toBe(0);
  });
});

describe("to the desktop", () => {
  it("goes when the desktop gets the focus only if the user chose so", async () => {
    local.text = "here";
    await sync.focused();
    expect([local.reads, desktop.sent, sync.state.automatic]).toEqual([0, 0, false]);
    await sync.setAutomatic(true);
    expect([desktop.text, sync.state.automatic]).toEqual(["here", true]);
    local.text = "later";
    await sync.focused();
    await sync.setAutomatic(false);
    local.text = "secret";
    await sync.focused();
    expect([desktop.text, desktop.sent, sync.state.automatic]).toEqual(["later", 2, false]);
  });

  it("goes when the desktop gets the focus, once", async () => {
    await sync.setAutomatic(true);
    local.text = "here";
    await sync.focused();
    await sync.focused();
    expect([desktop.text, desktop.sent]).toEqual(["here", 1]);
  });

  it.each(["prompt", "denied", "unknown"] as const)("never asks without the user: %s", async (may) => {
    local.may = may;
    await sync.focused();
    expect([local.reads, desktop.sent]).toEqual([0, 0]);
  });

  it("asks when the user wants it to", async () => {
    local.may = "prompt";
    local.text = "allowed";
    await sync.setAutomatic(true);
    expect(desktop.text).toBe("allowed");
  });

  it("is off, and says so, once the permission is revoked", async () => {
    await sync.setAutomatic(true);
    local.may = "prompt";
    local.changed?.("prompt");
    expect(sync.state).toMatchObject({ automatic: false, mayRead: "prompt", problem: { kind: "revoked" } });
    local.text = "secret";
    await sync.focused();
    expect([local.reads, desktop.sent]).toEqual([1, 0]);
    local.may = "granted";
    await sync.setAutomatic(true);
    expect(sync.state).toMatchObject({ automatic: true, problem: undefined });
    local.may = "denied"; // of which the browser says nothing
    await sync.focused();
    expect(sync.state).toMatchObject({ automatic: false, problem: { kind: "revoked" } });
  });

  it("is kept for one desktop", async () => {
    const kept = new Map<string, string>();
    vi.stubGlobal("localStorage", {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => kept.set(key, value),
      removeItem: (key: string) => kept.delete(key),
    });
    sync.restore("one");
    await sync.setAutomatic(true);
    sync.restore("two");
    expect(sync.state.automatic).toBe(false);
    sync.restore("one");
    expect(sync.state.automatic).toBe(true);
    local.changed?.("denied");
    sync.restore("one");
    expect(sync.state.automatic).toBe(false);
    vi.unstubAllGlobals();
  });

  it("survives a refusal", async () => {
    local.may = "denied";
    await sync.setAutomatic(true);
    expect([sync.state.mayRead, sync.state.automatic]).toEqual(["denied", false]);
  });

  it("goes again when pasted again: some servers lose the first", () => {
    expect([sync.send("twice"), sync.send("twice"), desktop.sent]).toEqual(["sent", "sent", 2]);
  });

  it("goes again to a new connection, whose clipboard is unknown", () => {
    sync.send("twice");
    sync.disconnected();
    sync.send("lost");
    connect();
    sync.send("twice");
    expect([desktop.text, desktop.sent]).toEqual(["twice", 2]);
  });

  it("reports which characters a Latin-1 server lost", () => {
    desktop.takesUnicode = false;
    sync.send("naïve → 5 € €");
    expect(sync.state.problem).toEqual({ kind: "lost", characters: ["→", "€"] });
    sync.send("naïve");
    expect(sync.state.problem).toBeUndefined();
  });
});

it("carries at most one mebibyte in either direction", async () => {
  const most = "é".repeat(limit / 2);
  sync.send(most);
  expect(desktop.text).toBe(most);
  sync.send(most + "x");
  expect([desktop.text, sync.state.problem]).toEqual([most, { kind: "long", from: "here" }]);
  await sync.fromDesktop(most + "x", true);
  expect([local.text, sync.state.problem]).toEqual(["", { kind: "long", from: "desktop", bytes: limit + 1 }]);
});

it.each([
  ["back â\u0086\u0092 1", "back → 1"],
  ["Ã©tÃ©", "été"],
  ["été", "été"],
  ["plain", "plain"],
  ["Ã© and →", "Ã© and →"],
])("reads UTF-8 that came as Latin-1: %s", (got, want) => expect(repaired(got)).toBe(want));

it("knows what Latin-1 lacks", () => expect(beyondLatin("aÿĀ😀Ā")).toEqual(["Ā", "😀"]));
