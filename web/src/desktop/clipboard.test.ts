import { beforeEach, describe, expect, it } from "vitest";
import { beyondLatin, ClipboardSync, limit, repaired, type MayRead } from "./clipboard";

let local: { text: string; may: MayRead; refuses: boolean; reads: number };
let desktop: { text: string; sent: number; takesUnicode: boolean };
let sync: ClipboardSync;

beforeEach(() => {
  local = { text: "", may: "granted", refuses: false, reads: 0 };
  desktop = { text: "", sent: 0, takesUnicode: true };
  sync = new ClipboardSync(
    {
      mayRead: async () => local.may,
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

  it("is not sent back to its origin", async () => {
    await sync.fromDesktop("once", true);
    await sync.focused();
    sync.send("once");
    expect(desktop.sent).toBe(0);
  });
});

describe("to the desktop", () => {
  it("goes when the desktop gets the focus, once", async () => {
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
    await sync.allow();
    expect(desktop.text).toBe("allowed");
  });

  it("survives a refusal", async () => {
    local.may = "denied";
    await sync.allow();
    expect(sync.state.mayRead).toBe("denied");
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
  expect([local.text, sync.state.problem]).toEqual(["", { kind: "long", from: "desktop" }]);
});

it.each([
  ["back â\u0086\u0092 1", "back → 1"],
  ["Ã©tÃ©", "été"],
  ["été", "été"],
  ["plain", "plain"],
  ["Ã© and →", "Ã© and →"],
])("reads UTF-8 that came as Latin-1: %s", (got, want) => expect(repaired(got)).toBe(want));

it("knows what Latin-1 lacks", () => expect(beyondLatin("aÿĀ😀Ā")).toEqual(["Ā", "😀"]));
