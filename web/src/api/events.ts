// The account's live events: one stream for all tabs, resumed after the last position that arrived.
import { EventSourceParserStream } from "eventsource-parser/stream";
import { signedFetch } from "./client";

/** An event of the log as the API returns it: a CloudEvent. */
export type LogEvent = {
  type: string;
  subject: string;
  sequence: string;
  sentence: string;
  time: string;
  data: Record<string, unknown>;
};

export type EventsState = "connecting" | "live" | "waiting";

const silence = 40_000; // ms without a byte after which a stream counts as dead; the server sends one every 15 s
// ms that a hidden page keeps its streams. Over HTTP/1.1 a browser has six connections per server for all tabs
// together: with one stream per tab, the sixth tab could load nothing.
const grace = 30_000;
let background = () => false;
const beatEvery = 10_000; // ms between two messages of the tab that has the stream
const least = 1_000,
  most = 20_000; // ms between attempts

type Config = {
  onEvent: (event: LogEvent, position: string) => void;
  /** The server was restored from a backup: earlier state is invalid, and all events follow again. */
  onReset: () => void;
  /** The stream is open. If it did not resume, earlier state may be out of date. */
  onOpen: (resumed: boolean) => void;
  onState: (state: EventsState) => void;
};

type TabMessage =
  | { /** A new tab asks for the state. */ hello: true }
  | { /** The tab that has the stream is alive. */ beat: true }
  | {
      event: LogEvent;
      position: string;
      /** The position before this event. A tab at another position has missed something. */ after: string | undefined;
    }
  | { /** The server was restored: all events after this point follow. */ reset: string }
  | {
      state: EventsState;
      /** The position of the stream; resumed: it has missed nothing. */
      last: string | undefined;
      resumed: boolean;
    };

/** While f returns true, hidden pages keep the stream. f is true only if their tabs share it. */
export function keepInBackground(f: () => boolean) {
  background = f;
}

/** Reports whether this page follows the events: it is visible, or it keeps the stream while it is hidden. */
export const awake = () => document.visibilityState === "visible" || background();

/**
 * Follows the events of a log-in until the signal is aborted. All its tabs share one stream. A visible tab has the
 * stream and passes events on to the others. When it closes or is hidden, another tab resumes from its position.
 */
export async function shareEvents(
  login: string,
  { onEvent, onReset, onOpen, onState }: Config,
  signal: AbortSignal,
): Promise<void> {
  const { locks } = navigator;
  if (!locks) return followEvents({ onEvent, onReset, onOpen, onState }, signal); // only secure pages have locks
  const name = `cloudbot.events.${login}`;
  const channel = new BroadcastChannel(name);
  const post = (message: TabMessage) => channel.postMessage(message);
  let leads = false;
  let joined = false; // earlier state may be out of date
  let heard = Date.now(); // when the tab that has the stream last sent a message
  let last: string | undefined;
  let state: EventsState = "connecting";
  const set = (now: EventsState) => onState((state = now));
  const open = (resumed: boolean) => {
    joined = true;
    onOpen(resumed);
  };
  channel.addEventListener("message", ({ data: message }: MessageEvent<TabMessage>) => {
    if ("hello" in message) {
      if (leads) post({ state, last, resumed: true });
      return;
    }
    heard = Date.now();
    if (leads || "beat" in message) {
      // the previous tab may still be closing
    } else if ("reset" in message) {
      last = message.reset;
      onReset();
    } else if ("event" in message) {
      const missed = !joined || message.after !== last;
      last = message.position || last;
      onEvent(message.event, message.position);
      if (missed) open(false);
    } else {
      set(message.state);
      if (message.state !== "live") return;
      const resumed = joined && message.resumed && message.last === last;
      last = message.last;
      open(resumed);
    }
  });
  onState(state);
  post({ hello: true });
  let steal = false;
  while (!signal.aborted) {
    await seen(signal);
    heard = Date.now();
    const turn = new AbortController();
    const end = () => turn.abort();
    const release = whenHidden(end);
    signal.addEventListener("abort", end);
    const watch = setInterval(() => {
      if (leads) post({ beat: true });
      else if (document.visibilityState === "visible" && Date.now() - heard > silence) {
        steal = true; // The browser suspended the tab that has the stream; the tab still holds the lock.
        end();
      }
    }, beatEvery);
    const lead = async () => {
      if (!awake()) return; // hidden since it asked: the next tab's turn
      leads = true;
      await followEvents(
        {
          onEvent: (event, position) => {
            post({ event, position, after: last });
            last = position || last; // events outside the log have none
            onEvent(event, position);
          },
          onReset: (position) => {
            post({ reset: position });
            last = position;
            onReset();
          },
          onOpen: (resumed) => {
            post({ state, last, resumed });
            open(resumed);
          },
          onState: (now) => {
            set(now);
            if (now !== "live") post({ state, last, resumed: true }); // live messages are passed on once the stream is open
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
    // Refused: the page was hidden before its turn, or another tab took the lock.
    if (!signal.aborted) await locks.request(name, how, lead).catch(end);
    clearInterval(watch);
    release();
    signal.removeEventListener("abort", end);
  }
  channel.close();
}

/**
 * Follows the events over its own stream, after the position `last` if there is one. With `shared`, a stream that
 * breaks while the page is hidden is left for another tab to reconnect.
 */
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
      lost = false; // The server ends the stream every hour. This is no failure, unless reconnecting fails.
    } catch (error) {
      // Reconnect after any error. A server of the previous version may not know this kind of id.
      if (error instanceof Refused && error.status === 400) last = undefined;
    }
    if (signal.aborted || (shared && !awake())) return;
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

/** One Server-Sent Events stream. It ends on silence, by the server, by the signal, or because the page is hidden. */
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
  // After sleep, the computer notices the timeout at the first check.
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

/** Calls f once the page has been hidden for a while, unless it follows the events then. Returns a function that cancels this. */
function whenHidden(f: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const look = () => {
    clearTimeout(timer);
    if (!awake()) timer = setTimeout(f, grace);
  };
  look();
  document.addEventListener("visibilitychange", look);
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  };
}

/** Waits until the page is visible, or follows the events while it is hidden. */
const seen = (signal: AbortSignal) => (signal.aborted || awake() ? Promise.resolve() : pause(0, signal));

/**
 * Waits; returns early when the browser is back online or the page becomes visible. A hidden page that does not follow
 * the events waits until it is visible.
 */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", look);
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const look = () => awake() && done();
    const timer = setTimeout(look, ms);
    addEventListener("online", look);
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", done);
  });
}
