// Messages that are not known to have arrived, kept in this browser. Each message has its idempotency key before it is
// first sent, so the machine accepts a resent message only once. Each message has its own key in the storage: two tabs
// that write one list would overwrite each other's changes.

import { newID } from "@/api/id";
import type { Kind } from "./frames";

export interface Item {
  key: string; // idempotency key, and the id of the run that answers
  text: string;
  at: number; // when it was written
  state: "queued" | "sent" | "unchecked" | "unconfirmed" | "refused"; // unconfirmed and refused wait for the user
  tries: number;
  tried?: boolean; // it was sent, and may have arrived
  reason?: string; // of a refusal
  conflict?: boolean; // the agent has another message with this key
  files?: Kind[]; // that go with it, which depot.ts keeps
  held?: string; // where: see depot.ts
}

export const outboxLimits = { messages: 50, bytes: 64 << 10 };
const prefix = "cloudbot.outbox:";
const drafts = "cloudbot.draft:";

const name = (...parts: string[]) => parts.map(encodeURIComponent).join(":");

/** clearOutboxes deletes an account's unsent messages at log-out. */
export function clearOutboxes(account: string, storage: Storage = localStorage): void {
  for (const key of keys(storage)) {
    if (key.startsWith(`${prefix}${name(account)}:`) || key.startsWith(`${drafts}${name(account)}:`))
      storage.removeItem(key);
  }
}

const keys = (storage: Storage) => Array.from({ length: storage.length }, (_, i) => storage.key(i) ?? "");

/** Outbox holds the messages to one instance's sessions. It reads the storage each time, because tabs share it. */
export class Outbox {
  #unkept = new Map<string, Map<string, Item>>(); // by session and key, if the storage refuses: kept at least while the page is open

  readonly #account: string;
  readonly #instance: string;
  readonly #storage: Storage;
  readonly #onGone: ((item: Item) => void) | undefined;

  /** onGone hears of each message with files that was removed. */
  constructor(
    account: string,
    instance: string,
    storage: Storage = localStorage,
    onGone: ((item: Item) => void) | undefined = undefined,
  ) {
    this.#onGone = onGone;
    this.#account = account;
    this.#instance = instance;
    this.#storage = storage;
  }

  #place(session: string) {
    return prefix + name(this.#account, this.#instance, session);
  }

  /** lock returns the name of the lock that lets only one tab at a time send. */
  lock(session: string) {
    return this.#place(session);
  }

  /** sessionOf returns the session whose outbox a storage event is about. */
  sessionOf(storageKey: string | null): string | undefined {
    const mine = `${prefix}${name(this.#account, this.#instance)}:`;
    return storageKey?.startsWith(mine) ? decodeURIComponent(storageKey.slice(mine.length).split(":")[0]!) : undefined;
  }

  /** sessions returns the sessions that have messages. */
  sessions(): string[] {
    const stored = keys(this.#storage).flatMap((k) => this.sessionOf(k) ?? []);
    return [...new Set([...stored, ...[...this.#unkept].flatMap(([s, items]) => (items.size > 0 ? s : []))])];
  }

  /** list returns a session's messages, oldest first. */
  list(session: string): Item[] {
    const items = new Map<string, Item>();
    for (const place of keys(this.#storage)) {
      const item = place.startsWith(`${this.#place(session)}:`) ? parse(this.#storage.getItem(place)) : undefined;
      if (item) items.set(item.key, item);
    }
    for (const item of this.#unkept.get(session)?.values() ?? []) items.set(item.key, item);
    return [...items.values()].toSorted((a, b) => a.at - b.at);
  }

  /** add stores a message; the error that it may throw is a sentence for the user. */
  add(
    session: string,
    text: string,
    at: number,
    key: string = newID(),
    filed: Pick<Item, "files" | "held"> = {},
  ): Item {
    const items = this.list(session);
    if (new TextEncoder().encode(text).length > outboxLimits.bytes)
      throw new Error("This message is longer than 64 KiB. Send it in parts, or attach it as a file.");
    if (items.length >= outboxLimits.messages)
      throw new Error("Fifty messages are waiting to be sent. Retry or discard some of them first.");
    const after = (items.at(-1)?.at ?? -1) + 1; // clocks jump; the order stays
    const item: Item = { key, text, at: Math.max(at, after), state: "queued", tries: 0, ...filed };
    this.#write(session, item);
    return item;
  }

  update(session: string, key: string, change: Partial<Item>): void {
    const item = this.list(session).find((i) => i.key === key);
    if (item) this.#write(session, { ...item, ...change });
  }

  /** again lets a message be sent that waits for the user. It gets a new key if the agent has another one with its key. */
  again(session: string, key: string): void {
    const item = this.list(session).find((i) => i.key === key);
    if (!item) return;
    const { reason: _, conflict, ...kept } = item;
    const fresh: Item = { ...kept, key: conflict ? newID() : key, state: "queued", tries: 0 };
    if (conflict) fresh.tried = false;
    this.#write(session, fresh);
    if (conflict) this.remove(session, key);
  }

  remove(session: string, ...gone: string[]): void {
    const filed = this.list(session).filter((i) => i.files && gone.includes(i.key));
    for (const key of gone) {
      this.#storage.removeItem(this.#slot(session, key));
      this.#unkept.get(session)?.delete(key);
    }
    for (const item of filed) this.#onGone?.(item);
  }

  clear(session: string): void {
    this.remove(session, ...this.list(session).map((i) => i.key));
    this.#storage.removeItem(drafts + name(this.#account, this.#instance, session));
  }

  #slot(session: string, key: string) {
    return `${this.#place(session)}:${name(key)}`;
  }

  #write(session: string, item: Item): void {
    const unkept = this.#unkept.get(session) ?? new Map<string, Item>();
    try {
      this.#storage.setItem(this.#slot(session, item.key), JSON.stringify(item));
      unkept.delete(item.key);
    } catch {
      this.#unkept.set(session, unkept.set(item.key, item));
    }
  }

  draft(session: string): string {
    return this.#storage.getItem(drafts + name(this.#account, this.#instance, session)) ?? "";
  }

  setDraft(session: string, text: string): void {
    const place = drafts + name(this.#account, this.#instance, session);
    try {
      if (text === "") this.#storage.removeItem(place);
      else this.#storage.setItem(place, text);
    } catch {
      // it stays in the text field
    }
  }
}

function parse(text: string | null): Item | undefined {
  try {
    const v: unknown = JSON.parse(text ?? "null");
    return isItem(v) ? v : undefined;
  } catch {
    return undefined;
  }
}

function isItem(v: unknown): v is Item {
  const i = v as Partial<Item> | null;
  return (
    typeof i?.key === "string" &&
    typeof i.text === "string" &&
    typeof i.at === "number" &&
    typeof i.tries === "number" &&
    (i.files === undefined || (Array.isArray(i.files) && i.files.every((f) => typeof f?.name === "string"))) &&
    (i.state === "queued" ||
      i.state === "sent" ||
      i.state === "unchecked" ||
      i.state === "unconfirmed" ||
      i.state === "refused")
  );
}
