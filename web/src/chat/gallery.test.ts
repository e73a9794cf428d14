import { expect, test } from "vitest";
import type { Left } from "./frames";
import { pictures } from "./frames";
import { Gallery } from "./gallery";
import { LostError, RequestError } from "./requests";

// The frames are those of OpenClaw 2026.9.6.
const main = "agent:main:main";
const part = { type: "image", mimeType: "image/jpeg", bytes: 46_397, omitted: true };
const left = (call: string, artifact = ""): Left => ({ of: call, nth: 0, artifact, bytes: 46_397, file: false });
const notFound = () =>
  new RequestError({
    code: "INVALID_REQUEST",
    message: "artifact not found",
    retryable: false,
    retryAfterMs: undefined,
  });

/** A gateway whose names for pictures change with each run, as OpenClaw's do. */
class Agent {
  run = 1;
  calls = ["a"]; // tools that returned a picture
  asked: string[] = [];
  data: unknown = "/9j/4AAQ";
  kind = "image/jpeg";
  fail: Error | undefined;
  hold: Promise<void> | undefined;
  under = 0;
  most = 0; // downloads at the same time

  ask = async (method: string, params: object): Promise<unknown> => {
    this.asked.push(method);
    if (method === "chat.history") return { messages: this.calls.map((call) => this.#result(call)) };
    this.most = Math.max(this.most, ++this.under);
    await this.hold;
    this.under--;
    if (this.fail) throw this.fail;
    const { artifactId, sessionKey } = params as { artifactId: string; sessionKey: string };
    if (sessionKey !== main || !this.calls.some((call) => artifactId === this.name(call))) throw notFound();
    return { artifact: { id: artifactId, mimeType: this.kind }, encoding: "base64", data: this.data };
  };
  name = (call: string) => `artifact_transcript_image_${this.run}_${call}`;
  count = (method: string) => this.asked.filter((m) => m === method).length;

  #result(call: string) {
    return {
      role: "toolResult",
      toolCallId: call,
      content: [
        { type: "text", text: "screenshot" },
        { ...part, artifactId: this.name(call) },
      ],
    };
  }
}
const src = "data:image/jpeg;base64,/9j/4AAQ";

test("a picture of the history is downloaded once", async () => {
  const agent = new Agent();
  const gallery = new Gallery(agent.ask);
  const l = left("a", agent.name("a"));
  expect(gallery.has(main, l)).toBe(undefined);
  expect(await Promise.all([gallery.load(main, l), gallery.load(main, l)])).toEqual([src, src]);
  expect(await gallery.load(main, l)).toBe(src);
  expect(agent.asked).toEqual(["artifacts.download"]);
});

test("a picture of an event, which has no name, is looked up; those that come together share that", async () => {
  const agent = new Agent();
  agent.calls = ["a", "b", "c"];
  const gallery = new Gallery(agent.ask);
  await Promise.all(agent.calls.map((call) => gallery.load(main, left(call))));
  expect(agent.count("artifacts.download")).toBe(3);
  expect(agent.count("chat.history")).toBeLessThan(3);
  expect(agent.most).toBe(2);
});

test("a name that another run made invalid is looked up again", async () => {
  const agent = new Agent();
  const l = left("a", agent.name("a"));
  agent.run++;
  expect(await new Gallery(agent.ask).load(main, l)).toBe(src);
  expect(agent.asked).toEqual(["artifacts.download", "chat.history", "artifacts.download"]);
});

test.each<[string, (a: Agent) => void, string]>([
  ["a picture that is gone", (a) => (a.calls = []), "no longer has"],
  ["an unknown kind", (a) => (a.kind = "image/svg+xml"), "unknown kind"],
  ["a page", (a) => (a.data = "<script>"), "unknown kind"],
  ["one that is too large", (a) => (a.data = "A".repeat(7 << 20)), "too large"],
  ["a refusal", (a) => (a.fail = notFound()), "could not send"],
])("%s is refused with a sentence, and asked for again on request", async (_, spoil, want) => {
  const agent = new Agent();
  spoil(agent);
  const gallery = new Gallery(agent.ask);
  await expect(gallery.load(main, left("a", "old"))).rejects.toThrow(want);
  Object.assign(agent, new Agent(), { ask: agent.ask, name: agent.name });
  expect(await gallery.load(main, left("a"))).toBe(src);
});

test("a lost connection is no refusal, and lets the next one come", async () => {
  const agent = new Agent();
  agent.calls = ["a", "b", "c"];
  agent.fail = new LostError();
  const gallery = new Gallery(agent.ask);
  const all = await Promise.allSettled(agent.calls.map((call) => gallery.load(main, left(call))));
  expect(all.map((r) => r.status === "rejected" && r.reason instanceof LostError)).toEqual([true, true, true]);
  agent.fail = undefined;
  expect(await gallery.load(main, left("c"))).toBe(src);
});

test("only the latest pictures are kept", async () => {
  const agent = new Agent();
  agent.data = "A".repeat(3 << 20);
  agent.calls = Array.from({ length: 10 }, (_, n) => `${n}`);
  const gallery = new Gallery(agent.ask);
  for (const call of agent.calls) await gallery.load(main, left(call));
  expect(agent.calls.filter((call) => gallery.has(main, left(call)) !== undefined)).toEqual([..."3456789"]);
});

test("a picture that was left out is known by its place, and a file by its address", () => {
  const content = [
    { type: "text", text: "here" },
    { type: "image", mimeType: "image/png", data: "AAAA" },
    { ...part, artifactId: "x" },
    { type: "image", artifactId: "m", url: "/api/chat/media/x/full", alt: "pic.png", sizeBytes: 9 },
    { type: "image", url: "https://example.com/x.png" },
    { type: "image", omitted: true, data: "<" },
  ];
  expect(pictures(content, "c").pictures).toEqual([
    { src: "data:image/png;base64,AAAA", alt: "" },
    { src: "", alt: "", left: { of: "c", nth: 1, artifact: "x", bytes: 46_397, file: false } },
    { src: "", alt: "pic.png", left: { of: "c", nth: 2, artifact: "m", bytes: 9, file: true } },
  ]);
});
