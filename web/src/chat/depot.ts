// The files of messages that wait to be delivered, and small pictures of those that were sent, in the browser's database.
// Where the browser refuses that, files are kept while the page is open.
import { newID } from "@/api/id";
import { kindOf, type Attached } from "./files";
import type { Kind } from "./frames";

export const depotLimits = { waiting: 100 << 20, thumbs: 200 }; // bytes of files; messages with small pictures
const stale = 3_600_000; // ms after which files without a message in the outbox are deleted
const database = "cloudbot.files";

interface Kept {
  at: number;
  bytes: number;
  files: Attached[];
}

/** Where files are: "disk", or the id of the page that has them in memory. */
export interface Place {
  key: string; // of the message
  files: Kind[];
  held: string;
}

const page = newID();
const memory = new Map<string, Attached[]>();
const thumbsHere = new Map<string, string[]>(); // of this page, if there is no database
let opening: Promise<IDBDatabase> | undefined;

/** keep stores the files of a message that is about to be added to the outbox; throws a sentence for the user. */
export async function keep(account: string, files: readonly Attached[], key = newID()): Promise<Place> {
  const bytes = files.reduce((n, f) => n + f.bytes, 0);
  const copies = await Promise.all(files.map(copied));
  const place = { key, files: files.map(kindOf), held: "disk" };
  await remember(account, key, files);
  try {
    const db = await open();
    const all = db.transaction("waiting").objectStore("waiting");
    const there = (await done(all.getAll())) as Kept[];
    if (there.reduce((n, k) => n + k.bytes, bytes) > depotLimits.waiting)
      throw new TooMuch(
        "The files of messages that wait to be sent would take more than 100 MB. Send or discard those messages first.",
      );
    const kept: Kept = { at: Date.now(), bytes, files: copies };
    await done(db.transaction("waiting", "readwrite").objectStore("waiting").put(kept, name(account, key)));
  } catch (error) {
    if (error instanceof TooMuch) throw error;
    memory.set(key, copies);
    holdPage();
    place.held = page;
  }
  return place;
}

class TooMuch extends Error {}

/** A browser's database may keep only where a file is on the disk, and the file may be gone or changed when it is sent. */
async function copied(f: Attached): Promise<Attached> {
  try {
    return { ...f, blob: new Blob([await f.blob.arrayBuffer()], { type: f.type }) };
  } catch {
    throw new Error(`“${f.name}” can't be read: it was moved or changed. Remove it and attach it again.`);
  }
}

/**
 * filesOf returns a message's files; undefined: this browser no longer has them. It rejects if another page has them, which
 * will send them.
 */
export async function filesOf(account: string, key: string, held: string): Promise<Attached[] | undefined> {
  const here = memory.get(key);
  if (here) return here;
  if (held !== "disk" && held !== page && (await pageLives(held))) throw new Error("another page has the files");
  try {
    const db = await open();
    const kept = (await done(db.transaction("waiting").objectStore("waiting").get(name(account, key)))) as
      Kept | undefined;
    return kept?.files;
  } catch {
    return undefined;
  }
}

/** drop deletes a message's files. */
export async function drop(account: string, key: string): Promise<void> {
  memory.delete(key);
  try {
    const db = await open();
    await done(db.transaction("waiting", "readwrite").objectStore("waiting").delete(name(account, key)));
  } catch {
    // there are none
  }
}

/** remember keeps the small pictures of a message: the agent hands its files out to no page. */
async function remember(account: string, key: string, files: readonly Attached[]): Promise<void> {
  if (!files.some((f) => f.thumb)) return;
  const thumbs = files.map((f) => f.thumb ?? "");
  try {
    const db = await open();
    const store = db.transaction("thumbs", "readwrite").objectStore("thumbs");
    await done(store.put({ at: Date.now(), thumbs }, name(account, key)));
    const over = (await done(store.count())) - depotLimits.thumbs;
    if (over > 0)
      for (const oldest of await done(store.index("at").getAllKeys(undefined, over))) await done(store.delete(oldest));
  } catch {
    thumbsHere.set(key, thumbs);
  }
}

/** thumbsOf returns the small pictures of a message's files, in order; "": of a file without one. */
export async function thumbsOf(account: string, key: string): Promise<string[]> {
  try {
    const db = await open();
    const kept = await done(db.transaction("thumbs").objectStore("thumbs").get(name(account, key)));
    return (kept as { thumbs: string[] } | undefined)?.thumbs ?? [];
  } catch {
    return thumbsHere.get(key) ?? [];
  }
}

/** clear deletes an account's files and small pictures, at log-out. */
export async function clear(account: string): Promise<void> {
  memory.clear();
  thumbsHere.clear();
  const db = await open();
  const all = IDBKeyRange.bound(`${account}:`, `${account};`, false, true);
  for (const store of ["waiting", "thumbs"])
    await done(db.transaction(store, "readwrite").objectStore(store).delete(all));
}

/** sweep deletes files whose message is in no outbox. */
export async function sweep(storage: Storage = localStorage): Promise<void> {
  try {
    const db = await open();
    const store = db.transaction("waiting").objectStore("waiting");
    const [names, all] = await Promise.all([done(store.getAllKeys()), done(store.getAll())]);
    const slots = Array.from({ length: storage.length }, (_, i) => storage.key(i) ?? "");
    for (const [n, at] of names.entries()) {
      const key = String(at).split(":").at(-1)!;
      if (Date.now() - (all[n] as Kept).at > stale && !slots.some((s) => s.endsWith(`:${key}`)))
        await done(db.transaction("waiting", "readwrite").objectStore("waiting").delete(at));
    }
  } catch {
    // without a database there is nothing to delete
  }
}

const name = (account: string, key: string) => `${account}:${key}`;

function open(): Promise<IDBDatabase> {
  return (opening ??= new Promise<IDBDatabase>((resolve, reject) => {
    const asked = indexedDB.open(database, 1);
    asked.addEventListener("upgradeneeded", () => {
      asked.result.createObjectStore("waiting");
      asked.result.createObjectStore("thumbs").createIndex("at", "at");
    });
    asked.addEventListener("success", () => {
      asked.result.addEventListener("close", () => (opening = undefined));
      resolve(asked.result);
    });
    asked.addEventListener("error", () => reject(asked.error ?? new Error("no database")));
    asked.addEventListener("blocked", () => reject(new Error("no database")));
  }).catch((error: unknown) => {
    opening = undefined;
    throw error;
  }));
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error ?? new Error("refused")));
    request.transaction?.addEventListener("abort", () => reject(request.transaction?.error ?? new Error("refused")));
  });
}

const lockOf = (id: string) => `cloudbot.page:${id}`;
let holding = false;

/** holdPage shows other pages that this one is open. */
function holdPage(): void {
  if (holding || !("locks" in navigator)) return;
  holding = true;
  void navigator.locks.request(lockOf(page), () => new Promise<never>(() => undefined)).catch(() => undefined);
}

async function pageLives(id: string): Promise<boolean> {
  if (!("locks" in navigator)) return false;
  const { held } = await navigator.locks.query();
  return held?.some((l) => l.name === lockOf(id)) === true;
}
