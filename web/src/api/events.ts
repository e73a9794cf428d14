// The account's events, live: one stream a tab, resumed after the last position that arrived.
import { EventSourceParserStream } from "eventsource-parser/stream";
import { signedFetch } from "./client";

/** An event of the log as the API gives it: a CloudEvent. */
export type LogEvent = { type: string; subject: string; sequence: string; sentence: string; time: string; data: Record<string, unknown> };

export type EventsState = "connecting" | "live" | "waiting";

const silence = 40_000; // ms without a byte after which a stream is taken for dead; the server sends one each 15 s
const least = 1_000, most = 20_000; // ms between tries

type Config = {
  onEvent: (event: LogEvent) => void;
  /** The stream is open and did not resume: what is known may be old. */
  onFresh: () => void;
  onState: (state: EventsState) => void;
};

/** Follows the events until the signal aborts. */
export async function followEvents({ onEvent, onFresh, onState }: Config, signal: AbortSignal): Promise<void> {
  let last: string | undefined;
  let tries = 0;
  while (!signal.aborted) {
    onState("connecting");
    const opened = Date.now();
    try {
      for await (const message of stream("/api/events", last, signal, () => {
        onState("live");
        if (last === undefined) onFresh();
      })) {
        if (message.id) last = message.id;
        if (message.event) onEvent(JSON.parse(message.data) as LogEvent);
      }
    } catch {
      // whatever it was: come back
    }
    if (signal.aborted) return;
    tries = Date.now() - opened > 3_000 ? 0 : tries + 1;
    onState("waiting");
    await pause(Math.min(most, least * 2 ** Math.min(tries, 5)) * (0.5 + Math.random() / 2), signal);
  }
}

export type Message = { id?: string | undefined; event?: string | undefined; data: string };

/** One Server-Sent Events stream, ended by silence, by the server or by the signal. */
export async function* stream(path: string, last: string | undefined, signal: AbortSignal, onOpen: () => void): AsyncGenerator<Message> {
  const control = new AbortController();
  const stop = () => control.abort();
  signal.addEventListener("abort", stop);
  let heard = Date.now();
  // A computer that slept finds the time gone as soon as it looks.
  const watch = setInterval(() => Date.now() - heard > silence && control.abort(), 5_000);
  const look = () => document.visibilityState === "visible" && Date.now() - heard > silence && control.abort();
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
    document.removeEventListener("visibilitychange", look);
    signal.removeEventListener("abort", stop);
    control.abort();
  }
}

/** Waits; at once again when the browser is back online or the page is looked at. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      document.removeEventListener("visibilitychange", seen);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const seen = () => document.visibilityState === "visible" && done();
    const timer = setTimeout(done, ms);
    addEventListener("online", done);
    document.addEventListener("visibilitychange", seen);
    signal.addEventListener("abort", done);
  });
}
