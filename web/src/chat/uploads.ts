// Messages with files: what the connection needs of them. The rest is loaded with the first file.
import type { BridgeAddress } from "@/api/bridge";
import { part } from "@/ui/later";
import type { Place } from "./depot";
import type { Attached } from "./files";
import type { Failure } from "./frames";
import type { Item } from "./outbox";
import { RequestError } from "./requests";

const parts = part(async () => {
  const depot = await import("./depot");
  void depot.sweep();
  return { ...depot, ...(await import("./upload")) };
});

interface Config {
  account: string;
  open: (signal: AbortSignal) => Promise<BridgeAddress>;
  onChange: () => void; // of the progress
}

export class Uploads {
  readonly #config: Config;
  #under = new Map<string, AbortController>();
  /** The parts that are sent, 0 to 1, by the message's key; a new map whenever one changed. */
  progress: ReadonlyMap<string, number> = new Map();

  constructor(config: Config) {
    this.#config = config;
  }

  /** keep stores the files of a new message; rejects with a sentence for the user. */
  async keep(files: readonly Attached[]): Promise<Place> {
    const { keep } = await parts.load();
    return keep(this.#config.account, files);
  }

  /** send sends a message with its files; rejects as Requests.request does. */
  async send(item: Item, params: object): Promise<unknown> {
    const { account, open } = this.#config;
    const { filesOf, upload } = await parts.load().catch(() => {
      throw refusal("A part of the page could not be loaded.", 5_000);
    });
    const files = await filesOf(account, item.key, item.held ?? "").catch(() => {
      throw refusal("Another tab sends it.", 5_000);
    });
    if (!files)
      throw refusal(
        "Its files are no longer in this browser. Discard this message, then send it again with its files.",
      );
    const stop = new AbortController();
    this.#under.set(item.key, stop);
    try {
      this.#set(item.key, 0);
      return await upload({ open, params, files, onProgress: (p) => this.#set(item.key, p), signal: stop.signal });
    } finally {
      this.#under.delete(item.key);
      this.#set(item.key, undefined);
    }
  }

  /** drop deletes the files of a message that left the outbox, and stops sending it. */
  drop(item: Pick<Item, "key">): void {
    this.#under.get(item.key)?.abort();
    void parts.load().then(
      ({ drop }) => drop(this.#config.account, item.key),
      () => undefined, // sweep deletes them later
    );
  }

  /** thumbs returns the small pictures of a sent message's files. */
  async thumbs(key: string): Promise<string[]> {
    const { thumbsOf } = await parts.load();
    return thumbsOf(this.#config.account, key);
  }

  stop(): void {
    for (const one of this.#under.values()) one.abort();
  }

  #set(key: string, part_: number | undefined): void {
    const next = new Map(this.progress);
    if (part_ === undefined) next.delete(key);
    else next.set(key, part_);
    this.progress = next;
    this.#config.onChange();
  }
}

function refusal(message: string, retryAfterMs?: number): RequestError {
  const failure: Failure = { code: "CLOUDBOT_FILES", message, retryable: retryAfterMs !== undefined, retryAfterMs };
  return new RequestError(failure);
}
