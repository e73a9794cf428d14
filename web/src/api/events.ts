// The account's events, live: one stream for all tabs, resumed after the last position that arrived.
import { EventSourceParserStream } from "eventsource-parser/stream";
import { signedFetch } from "./client";

/** An event of the log as the API gives it: a CloudEvent. */
export type LogEvent = {
  type: string;
  subject: string;
  sequence: string;
  sentence: string;
  time: string;
  data: Record<string, unknown>;
};

export type EventsState = "connecting" | "live" | "waiting";

const silence = 40_000; // ms without a byte after which a stream is taken for dead; the server sends one each 15 s
// ms that a hidden page keeps its streams. Over HTTP/1.1 a browser has six connections to a server for all
// tabs together: with a stream each, the sixth tab would wait for ever.
const grace = 30_000;
const beatEvery = 10_000; // ms between two words of the tab that has the stream
const least = 1_000,
  most = 20_000; // ms between tries

type Config = {
  onEvent: (event: LogEvent, position: string) => void;
  /** The server was restored from a backup: nothing that is known counts, and all events follow again. */
  onReset: () => void;
  /** The stream is open. Where it did not resume, what is known may be old. */
  onOpen: (resumed: boolean) => void;
  onState: (state: EventsState) => void;
};

type Word =
  | { /** Somebody new asks how it is. */ hello: true }
  | { /** The one that has the stream is there. */ beat: true }
  | {
      event: LogEvent;
      position: string;
      /** The position before it: who was at another has missed something. */ after: string | undefined;
    }
  | { /** The server was restored: the point from which everything follows. */ reset: string }
  | {
      state: EventsState;
      /** Where the stream is; whether it has missed nothing. */ last: string | undefined;
      resumed: boolean;
    };

/**
 * Follows the events of a log-in until the signal aborts. Its tabs share one stream: one that is looked at
 * has it and tells the others, and when that one goes or is hidden, the next one goes on where it was.
 */
export async function shareEvents(
  login: string,
  { onEvent, onReset, onOpen, onState }: Config,
  signal: AbortSignal,
): Promise<void> {
  const { locks } = navigator;
  if (!locks) return followEvents({ onEvent, onReset, onOpen, onState }, signal); // only secure pages have them
  const name = `cloudbot.events.${login}`;
  const channel = new BroadcastChannel(name);
  const tell = (word: Word) => channel.postMessage(word);
  let leads = false;
  let joined = false; // what was known before may be old
  let heard = Date.now(); // when the one that has the stream said something
  let last: string | undefined;
  let state: EventsState = "connecting";
  const set = (now: EventsState) => onState((state = now));
  const open = (resumed: boolean) => {
    joined = true;
    onOpen(resumed);
  };
  channel.addEventListener("message", ({ data: word }: MessageEvent<Word>) => {
    if ("hello" in word) {
      if (leads) tell({ state, last, resumed: true });
      return;
    }
    heard = Date.now();
    if (leads || "beat" in word) {
      // the one before may still be leaving
    } else if ("reset" in word) {
      last = word.reset;
      onReset();
    } else if ("event" in word) {
      const missed = !joined || word.after !== last;
      last = word.position || last;
      onEvent(word.event, word.position);
      if (missed) open(false);
    } else {
      set(word.state);
      if (word.state !== "live") return;
      const resumed = joined && word.resumed && word.last === last;
      last = word.last;
      open(resumed);
    }
  });
  onState(state);
  tell({ hello: true });
  let steal = false;
  while (!signal.aborted) {
    await seen(signal);
    heard = Date.now();
    const turn = new AbortController();
    const end = () => turn.abort();
    const release = whenHidden(end);
    signal.addEventListener("abort", end);
    const watch = setInterval(() => {
      if (leads) tell({ beat: true });
      else if (document.visibilityState === "visible" && Date.now() - heard > silence) {
        steal = true; // who has the stream was suspended by the browser, and keeps it without a word
        end();
      }
    }, beatEvery);
    const lead = async () => {
      if (document.visibilityState !== "visible") return; // hidden since it asked: the next one's turn
      leads = true;
      await followEvents(
        {
          onEvent: (event, position) => {
            tell({ event, position, after: last });
            last = position || last; // what is not in the log has none
            onEvent(event, position);
          },
          onReset: (position) => {
            tell({ reset: position });
            last = position;
            onReset();
          },
          onOpen: (resumed) => {
            tell({ state, last, resumed });
            open(resumed);
          },
          onState: (now) => {
            set(now);
            if (now !== "live") tell({ state, last, resumed: true }); // what is live is told when it is open
          },
        },
        turn.signal,
        last,
        true,
      );
      leads = false;
    };
    const how = steal ? { steal } : { signal: turn.signal };
    steal = false;
    // Refused: hidden before its turn came, or another one stole it.
    if (!signal.aborted) await locks.request(name, how, lead).catch(end);
    clearInterval(watch);
    release();
    signal.removeEventListener("abort", end);
  }
  channel.close();
}

/** Follows the events over a stream of its own, after the position last where there is one; shared: one that breaks off while nobody looks is another tab's to make anew. */
export async function followEvents(
  { onEvent, onReset, onOpen, onState }: Omit<Config, "onReset"> & { onReset: (position: string) => void },
  signal: AbortSignal,
  last?: string,
  shared = false,
): Promise<void> {
  let tries = 0;
  onState("connecting");
  await seen(signal);
  while (!signal.aborted) {
    const opened = Date.now();
    let lost = true;
    try {
      for await (const message of stream("/api/events", last, signal, () => {
        onState("live");
        onOpen(last !== undefined);
      })) {
        if (message.id) last = message.id;
        if (message.event === "reset") onReset(message.id ?? "");
        else if (message.event) onEvent(JSON.parse(message.data) as LogEvent, message.id ?? "");
      }
      lost = false; // ended in order, as each hour: nothing to tell of, unless there is no way back
    } catch (error) {
      // Whatever it was: come back. A server of the version before may not know this kind of id.
      if (error instanceof Refused && error.status === 400) last = undefined;
    }
    if (signal.aborted || (shared && document.visibilityState !== "visible")) return;
    tries = Date.now() - opened > 3_000 ? 0 : tries + 1;
    if (lost && document.visibilityState === "visible") onState("waiting");
    await pause(Math.min(most, least * 2 ** Math.min(tries, 5)) * (0.5 + Math.random() / 2), signal);
  }
}

class Refused extends Error {
  constructor(
    path: string,
    readonly status: number,
  ) {
    super(`${path}: ${status}`);
  }
}

export type Message = { id?: string | undefined; event?: string | undefined; data: string };

/** One Server-Sent Events stream, ended by silence, by the server, by the signal, or because nobody looks. */
export async function* stream(
  path: string,
  last: string | undefined,
  signal: AbortSignal,
  onOpen: () => void,
): AsyncGenerator<Message> {
  const control = new AbortController();
  const stop = () => control.abort();
  signal.addEventListener("abort", stop);
  let heard = Date.now();
  // A computer that slept finds the time gone as soon as it looks.
  const watch = setInterval(() => Date.now() - heard > silence && control.abort(), 5_000);
  const look = () => document.visibilityState === "visible" && Date.now() - heard > silence && stop();
  document.addEventListener("visibilitychange", look);
  const release = whenHidden(stop);
  try {
    const response = await signedFetch(path, {
      headers: last === undefined ? {} : { "Last-Event-ID": last },
      signal: control.signal,
    });
    if (!response.ok || !response.body) throw new Refused(path, response.status);
    onOpen();
    const messages = response.body
      .pipeThrough(
        new TransformStream<Uint8Array, Uint8Array>({
          transform(chunk, c) {
            heard = Date.now();
            c.enqueue(chunk);
          },
        }),
      )
      .pipeThrough(new TextDecoderStream() as unknown as TransformStream<Uint8Array, string>)
      .pipeThrough(new EventSourceParserStream());
    const reader = messages.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    clearInterval(watch);
    release();
    document.removeEventListener("visibilitychange", look);
    signal.removeEventListener("abort", stop);
    control.abort();
  }
}

/** Calls f once the page has been hidden for a while; the function it returns ends that. */
function whenHidden(f: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const look = () => {
    clearTimeout(timer);
    if (document.visibilityState !== "visible") timer = setTimeout(f, grace);
  };
  look();
  document.addEventListener("visibilitychange", look);
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  };
}

/** Waits until somebody looks at the page. */
const seen = (signal: AbortSignal) =>
  signal.aborted || document.visibilityState === "visible" ? Promise.resolve() : pause(0, signal);

/** Waits; at once again when the browser is back online or the page is looked at. A hidden page waits until it is. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", look);
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const look = () => document.visibilityState === "visible" && done();
    const timer = setTimeout(look, ms);
    addEventListener("online", look);
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", done);
  });
}
