import { renderToStaticMarkup } from "react-dom/server";
import { expect, test } from "vitest";
import { allowances, canTakeBack, whyNot } from "./allowed";
import { Covers } from "./allowedDialog";
import { approval } from "./asked";
import { LostError, RequestError } from "./requests";

test("the machine's list is shown as text of limited size, and an entry without an id is left out", () => {
  const { entries, more } = allowances({
    entries: [
      { id: "a", agent: "main", command: "git \u202e--version", programs: ["/usr/bin/git", 7, {}], usedAt: 5 },
      { id: "b", agent: "*", any: true, tool: "publish", server: "docs" },
      { command: "no id" },
      "x",
    ],
    more: 3,
  });
  expect(more).toBe(3);
  expect(entries).toEqual([
    {
      id: "a",
      command: "git \\u{202e}--version",
      programs: ["/usr/bin/git"],
      any: false,
      tool: "",
      agent: "",
      usedAt: 5,
    },
    { id: "b", command: "", programs: [], any: true, tool: "publish of docs", agent: "*", usedAt: undefined },
  ]);
  for (const odd of [undefined, [], { entries: {} }, { entries: null, more: "x" }])
    expect(allowances(odd)).toEqual({ entries: [], more: 0 });
});

const old = new RequestError({
  code: "INVALID_REQUEST",
  message: "unknown method",
  retryable: false,
  retryAfterMs: undefined,
});

test("a place to take it back is promised only if the machine has one", async () => {
  expect(await canTakeBack({ ask: () => Promise.resolve({ entries: [] }) })).toBe(true);
  expect(await canTakeBack({ ask: () => Promise.reject(old) })).toBe(false);
  expect(await canTakeBack({ ask: () => Promise.reject(new LostError()) })).toBe(false);
  expect(whyNot(old)).toContain("unknown method");
  expect(whyNot(new LostError())).toContain("only while the desktop and its agent run");
});

const words = (request: object, kind: "exec" | "plugin" = "exec") =>
  renderToStaticMarkup(
    <Covers approval={approval({ id: "a", request }, kind)!} connection={{ ask: () => Promise.reject(old) }} />,
  );

test("the card says what is covered, as far as the request says it", () => {
  expect(words({ command: "git --version" })).toContain("exactly this command");
  expect(words({ command: "a && b", commandAnalysis: { commandCount: 2 } })).toContain("each of its 2 commands alone");
  expect(words({ command: "a" })).not.toContain("menu");
  expect(words({ title: "Publish?" }, "plugin")).toContain("the plug-in that asks decides");
  expect(words({ command: "a", unavailableDecisions: ["allow-always"] })).toBe("");
  expect(words({ command: "a", cronExecutionSource: { jobId: "j" } })).toBe("");
});
