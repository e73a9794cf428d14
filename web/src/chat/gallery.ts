// Loads the pictures that the agent left out of its events and history, when they are about to be seen. The name under
// which the agent hands a picture out is in its history, and changes with each run: an old one is looked up again.
import { embedded, id, limits, list, rec, type Left, type Rec } from "./frames";
import { RequestError } from "./requests";

/** Refusal is an error with a sentence for the user. */
export class Refusal extends Error {}

const atOnce = 2; // pictures under way
const mostPictures = 40; // kept
const mostCharacters = 24 << 20; // kept: of data: URLs
const unsent = "The agent could not send this picture.";
const looked = 200; // messages of the history in which a picture is looked up

type Ask = (method: string, params: object) => Promise<unknown>;

export class Gallery {
  readonly #ask: Ask;
  #kept = new Map<string, string>(); // data: URLs, the latest used last
  #coming = new Map<string, Promise<string>>();
  #lookups = new Map<string, Promise<Map<string, string>>>(); // under way, by session
  #free = atOnce;
  #waiting: (() => void)[] = [];

  constructor(ask: Ask) {
    this.#ask = ask;
  }

  /** has returns a picture's data: URL if it is kept. */
  has(session: string, left: Left): string | undefined {
    const name = nameOf(session, left);
    const src = this.#kept.get(name);
    if (src !== undefined) this.#keep(name, src);
    return src;
  }

  /** load returns a picture's data: URL, or throws a Refusal or the connection's error. */
  load(session: string, left: Left): Promise<string> {
    const name = nameOf(session, left);
    const kept = this.has(session, left);
    if (kept !== undefined) return Promise.resolve(kept);
    const coming = this.#coming.get(name) ?? this.#load(session, left).finally(() => this.#coming.delete(name));
    this.#coming.set(name, coming);
    return coming;
  }

  async #load(session: string, left: Left): Promise<string> {
    if (this.#free === 0) await new Promise<void>((turn) => this.#waiting.push(turn));
    else this.#free--;
    try {
      const src = await this.#fetch(session, left);
      this.#keep(nameOf(session, left), src);
      return src;
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }

  async #fetch(session: string, left: Left): Promise<string> {
    if (left.artifact !== "") {
      try {
        return await this.#download(session, left.artifact);
      } catch (error) {
        if (!(error instanceof RequestError) || left.of === "") throw error;
      }
    }
    const artifact = (await this.#lookup(session)).get(`${left.of} ${left.nth}`);
    if (artifact === undefined) throw new Refusal("The agent no longer has this picture.");
    if (artifact === left.artifact) throw new Refusal(unsent);
    try {
      return await this.#download(session, artifact);
    } catch (error) {
      throw error instanceof RequestError ? new Refusal(unsent) : error;
    }
  }

  async #download(sessionKey: string, artifactId: string): Promise<string> {
    const answer = rec(await this.#ask("artifacts.download", { sessionKey, artifactId }));
    const src = answer.encoding === "base64" ? embedded(rec(answer.artifact).mimeType, answer.data) : "";
    if (src === "") throw new Refusal("The chat can't show this picture: it is too large or of an unknown kind.");
    return src;
  }

  /** lookup returns the names of the pictures in a session's newest messages. Those that ask at the same time share it. */
  #lookup(session: string): Promise<Map<string, string>> {
    const under = this.#lookups.get(session);
    if (under) return under;
    const asked = this.#ask("chat.history", { sessionKey: session, limit: looked })
      .then((payload) => names(rec(payload)))
      .finally(() => this.#lookups.delete(session));
    this.#lookups.set(session, asked);
    return asked;
  }

  #keep(name: string, src: string): void {
    this.#kept.delete(name);
    this.#kept.set(name, src);
    let size = 0;
    for (const s of this.#kept.values()) size += s.length;
    for (const [oldest, s] of this.#kept) {
      if (this.#kept.size <= mostPictures && size <= mostCharacters) break;
      this.#kept.delete(oldest);
      size -= s.length;
    }
  }
}

const nameOf = (session: string, l: Left) => `${session} ${l.of === "" ? l.artifact : `${l.of} ${l.nth}`}`;

/** names returns the names of a history's pictures, by the tool's use or the message that has them. */
function names(payload: Rec): Map<string, string> {
  const found = new Map<string, string>();
  for (const v of list(payload.messages, limits.messages)) {
    const m = rec(v);
    const of = id(m.toolCallId) || id(rec(m.__openclaw).id);
    list(m.content, limits.tools)
      .map(rec)
      .filter((part) => part.type === "image")
      .forEach((part, nth) => {
        if (of && id(part.artifactId)) found.set(`${of} ${nth}`, id(part.artifactId));
      });
  }
  return found;
}
