// The account's events, live: one stream a tab, resumed after the last position that arrived.
import { EventSourceParserStream } from "eventsource-parser/stream";
import { signedFetch } from "./client";

/** An event of the log as the API gives it: a CloudEvent. */
export type LogEvent = { type: string; subject: string; sequence: string; sentence: string; time: string; data: Record<string, unknown> };

export type EventsState = "connecting" | "live" | "waiting";

const silence = 40_000; // ms without a byte after which a stream is taken for dead; the server sends one each 15 s
// ms that a hidden page keeps its streams. Over HTTP/1.1 a browser has six connections to a server for all
// tabs together: with a stream each, the seventh tab would wait for ever.
const grace = 30_000;
const least = 1_000, most = 20_000; // ms between tries

type Config = {
  onEvent: (event: LogEvent) => void;
  /** The stream is open. Where it did not resume, what is known may be old. */
  onOpen: (resumed: boolean) => void;
  onState: (state: EventsState) => void;
};

/** Follows the events until the signal aborts. */
export async function followEvents({ onEvent, onOpen, onState }: Config, signal: AbortSignal): Promise<void> {
  let last: string | undefined;
  let tries = 0;
  onState("connecting");
  while (!signal.aborted) {
    const opened = Date.now();
    try {
      for await (const message of stream("/api/events", last, signal, () => {
        onState("live");
        onOpen(last !== undefined);
      })) {
        if (message.id) last = message.id;
        if (message.event) onEvent(JSON.parse(message.data) as LogEvent);
      }
    } catch {
      // whatever it was: come back
    }
    if (signal.aborted) return;
    tries = Date.now() - opened > 3_000 ? 0 : tries + 1;
    if (document.visibilityState === "visible") onState("waiting");
    await pause(Math.min(most, least * 2 ** Math.min(tries, 5)) * (0.5 + Math.random() / 2), signal);
  }
}

export type Message = { id?: string | undefined; event?: string | undefined; data: string };

/** One Server-Sent Events stream, ended by silence, by the server, by the signal, or because nobody looks. */
export async function* stream(path: string, last: string | undefined, signal: AbortSignal, onOpen: () => void): AsyncGenerator<Message> {
  const control = new AbortController();
  const stop = () => control.abort();
  signal.addEventListener("abort", stop);
  let heard = Date.now();
  // A computer that slept finds the time gone as soon as it looks.
  const watch = setInterval(() => Date.now() - heard > silence && control.abort(), 5_000);
  let hiding: ReturnType<typeof setTimeout> | undefined;
  const look = () => {
    clearTimeout(hiding);
    if (document.visibilityState !== "visible") hiding = setTimeout(stop, grace);
    else if (Date.now() - heard > silence) stop();
  };
  look();
  document.addEventListener("visibilitychange", look);
  try {
    const response = await signedFetch(path, { headers: last === undefined ? {} : { "Last-Event-ID": last }, signal: control.signal });
    if (!response.ok || !response.body) throw new Error(`${path}: ${response.status}`);
    onOpen();
    const messages = response.body
      .pipeThrough(new TransformStream<Uint8Array, Uint8Array>({ transform(chunk, c) { heard = Date.now(); c.enqueue(chunk); } }))
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
    clearTimeout(hiding);
    document.removeEventListener("visibilitychange", look);
    signal.removeEventListener("abort", stop);
    control.abort();
  }
}

/** Waits; at once again when the browser is back online or the page is looked at. A hidden page waits until it is. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", seen);
      document.removeEventListener("visibilitychange", seen);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const seen = () => document.visibilityState === "visible" && done();
    const timer = setTimeout(seen, ms);
    addEventListener("online", seen);
    document.addEventListener("visibilitychange", seen);
    signal.addEventListener("abort", done);
  });
}
