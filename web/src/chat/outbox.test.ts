import { beforeEach, describe, expect, test, vi } from "vitest";
import { clearOutboxes, Outbox } from "./outbox";
import { MemoryStorage } from "./testing";

let storage: MemoryStorage;
beforeEach(() => (storage = new MemoryStorage()));
const open = (account = "a", instance = "i") => new Outbox(account, instance, storage);

describe("outbox", () => {
  test("keeps messages in order, each with a key, also for the next page", () => {
    const one = open().add("s", "one", 1);
    const two = open().add("s", "two", 2);
    expect(one.key).not.toBe(two.key);
    expect(
      open()
        .list("s")
        .map((i) => [i.text, i.state]),
    ).toEqual([
      ["one", "queued"],
      ["two", "queued"],
    ]);
    open().update("s", one.key, { state: "sent", tries: 1 });
    expect(open().list("s")[0]).toEqual({ ...one, state: "sent", tries: 1 });
    open().remove("s", one.key);
    expect(
      open()
        .list("s")
        .map((i) => i.text),
    ).toEqual(["two"]);
  });

  test("two tabs that write at the same time lose no messages", () => {
    const here = open(),
      there = open();
    const first = here.add("s", "one", 5);
    // The storage as the other tab still sees it, while this tab writes.
    const stale = new MemoryStorage();
    stale.setItem(storage.key(0)!, storage.getItem(storage.key(0)!)!);
    const late = new Outbox("a", "i", stale);
    here.add("s", "two", 5);
    late.update("s", first.key, { state: "sent", tries: 1 });
    storage.setItem(stale.key(0)!, stale.getItem(stale.key(0)!)!); // the other tab's writes arrive
    expect(there.list("s").map((i) => [i.text, i.state])).toEqual([
      ["one", "sent"],
      ["two", "queued"],
    ]);
  });

  test("instances, sessions and accounts do not see each other's messages", () => {
    open("a", "i").add("s:1", "mine", 1);
    expect(open("a", "i").sessions()).toEqual(["s:1"]);
    for (const other of [open("a", "j"), open("b", "i"), open("a", "i:s")]) expect(other.sessions()).toEqual([]);
    expect(open("a", "i").list("s")).toEqual([]);
  });

  test("has keys without a secure context, where crypto has no randomUUID", () => {
    vi.stubGlobal("crypto", { getRandomValues: crypto.getRandomValues.bind(crypto) });
    expect(open().add("s", "one", 1).key).toMatch(/^[0-9a-f]{32}$/);
    vi.unstubAllGlobals();
  });

  test("is limited, and explains the limit in a sentence", () => {
    expect(() => open().add("s", "é".repeat(33_000), 1)).toThrow(
      new Error("This message is longer than 64 KiB. Send it in parts, or attach it as a file."),
    );
    for (let i = 0; i < 50; i++) open().add("s", "x", i);
    expect(() => open().add("s", "x", 51)).toThrow(
      new Error("Fifty messages are waiting to be sent. Retry or discard some of them first."),
    );
    expect(open().list("s")).toHaveLength(50);
  });

  test("messages that cannot be stored are kept while the page is open", () => {
    const o = open();
    storage.full = true;
    o.add("s", "kept", 1);
    expect(o.list("s").map((i) => i.text)).toEqual(["kept"]);
    expect(o.sessions()).toEqual(["s"]);
  });

  test("values of other programs in the storage are ignored", () => {
    open().add("s", "x", 1);
    const place = storage.key(0)!;
    for (const nonsense of ["{", "null", '{"a":1}', '[1,null,{"key":1}]']) {
      storage.setItem(place, nonsense);
      expect(open().list("s")).toEqual([]);
    }
  });

  test("a log-out deletes one account's messages and drafts", () => {
    open("a").add("s", "x", 1);
    open("a").setDraft("s", "half a sentence");
    open("ab").add("s", "y", 1);
    storage.setItem("cloudbot.session", "t");
    clearOutboxes("a", storage);
    expect(open("a").list("s")).toEqual([]);
    expect(open("a").draft("s")).toBe("");
    expect(open("ab").list("s")).toHaveLength(1);
    expect(storage.getItem("cloudbot.session")).toBe("t");
  });
});
