import { expect, test } from "vitest";
import { refusalIn } from "./denial";
import type { Rec } from "./frames";
import { reduce } from "./reducer";
import { empty, type ChatState } from "./state";

const args = JSON.stringify({ command: "git --version" });
const denied = (reason: string, command = "git --version") => `Exec denied (${reason}): ${command}`;

test.each([
  [denied("gateway id=0dd47107, user-denied"), "denied"],
  [denied("gateway id=0dd47107, approval-timeout"), "expired"],
  [denied("approval-timeout: allowlist-miss"), "expired"],
  [denied("gateway id=0dd47107, approval-request-failed"), undefined],
  [denied("gateway id=0dd47107, user-denied", "rm -rf ~"), undefined], // a command's output that looks like it
  [`a line\n${denied("user-denied")}`, undefined],
  [`${denied("user-denied")}\n\n(Command exited with code 1)`, undefined],
  [denied(`${"x, ".repeat(200)}user-denied`), undefined], // of any length, it could keep the page busy
  [denied(`user-denied${" x".repeat(200)}`), undefined],
  ["Denied by user. The tool call did not run.\nThis denial is final.", "denied"],
  ["Denied by user. The tool call did not run. Or so it says", undefined],
  ["Aborted", "stopped"],
  ["Aborted by the server", undefined],
  ["", undefined],
])("%j is read as %s", (result, want) => {
  expect(refusalIn("exec", result, args)).toBe(want);
});

// OpenClaw 2026.9.6 with the guest's gate or lease, and the stand-in.
const broken = (error: string, tool = "computer") => JSON.stringify({ status: "error", tool, error }, null, 2);
test.each([
  [broken("Error: COMPUTER_DRIVER_ERROR: Unsupported extension"), "held"],
  [broken("Error: COMPUTER_DRIVER_ERROR: desktop-scope click failed: Unsupported extension"), "held"],
  [broken("Error: COMPUTER_HOST_BUSY: another execution owns the Gateway computer"), "held"],
  ["The user has the mouse and keyboard.", "held"],
  [broken("Error: COMPUTER_DRIVER_ERROR: no display"), undefined],
  [broken("Error: COMPUTER_DRIVER_ERROR: Unsupported extension", "exec"), undefined],
  ["Error: COMPUTER_DRIVER_ERROR: Unsupported extension", undefined],
  ["The user has the mouse and keyboard. Or not", undefined],
])("%j of the computer is read as %s", (result, want) => {
  expect(refusalIn("computer", result, "{}")).toBe(want);
  expect(refusalIn("exec", result, "{}")).toBe(undefined);
});

test("an input that is cut off or has no command does not matter", () => {
  expect(refusalIn("exec", denied("user-denied"), args.slice(0, 10))).toBe("denied");
  expect(refusalIn("exec", denied("user-denied"), "{}")).toBe("denied");
});

const key = "agent:main:main";
const act = (seq: number, stream: string, data: Rec) => ({
  type: "event" as const,
  event: "agent",
  now: seq,
  payload: { runId: "r", sessionKey: key, seq, stream, data: { toolCallId: "c", name: "exec", ...data } },
});
const start = act(1, "tool", { phase: "start", args: { command: "git --version" } });
const asked = {
  type: "event" as const,
  event: "exec.approval.requested",
  now: 1,
  payload: { id: "a", request: { command: "git --version", sessionKey: key, toolCallId: "c" } },
};
const resolved = (status: string) => ({
  type: "event" as const,
  event: "exec.approval.resolved",
  now: 3,
  payload: { id: "a", status },
});
const result = (text: string, isError = true) =>
  act(5, "tool", { phase: "result", isError, result: { content: [{ type: "text", text }] } });
const told = (status: string) => act(6, "approval", { phase: "resolved", kind: "exec", status });
const play = (...actions: Parameters<typeof reduce>[1][]): ChatState => actions.reduce(reduce, empty);
const state = (s: ChatState) => s.runs[0]?.tools[0]?.state;

// OpenClaw sends the agent's event after the result; the guest reports the answer before it.
test.each<[string, Parameters<typeof reduce>[1][], string]>([
  ["the result alone", [result(denied("user-denied"))], "denied"],
  ["the agent's event after a result that says nothing", [result("no"), told("denied")], "denied"],
  ["the agent's event before it", [told("denied"), result("no")], "denied"],
  ["the guest's event", [asked, resolved("denied"), result("no")], "denied"],
  ["the guest's event about an answer that did not come", [asked, resolved("expired"), result("no")], "expired"],
  [
    "an answer that did not come, which the agent calls denied",
    [told("denied"), result(denied("approval-timeout"))],
    "expired",
  ],
  ["a command whose run was stopped", [asked, resolved("cancelled"), result("Aborted")], "stopped"],
  ["an allowed command that fails", [asked, resolved("allowed"), result("no")], "failed"],
  ["an allowed command", [asked, resolved("allowed"), told("approved"), result("yes", false)], "done"],
  ["a command that ran, whatever the agent then says", [result("yes", false), told("denied")], "done"],
])("%s", (_, actions, want) => {
  expect(state(play(start, ...actions))).toBe(want);
});

test("a denial of another run or tool changes nothing", () => {
  const other = { ...told("denied"), payload: { ...told("denied").payload, runId: "another" } };
  const s = play(start, result("no"));
  expect(reduce(s, other)).toBe(s);
  expect(
    state(play(start, result("no"), act(7, "approval", { phase: "resolved", status: "denied", toolCallId: "d" }))),
  ).toBe("failed");
});

const load = (messages: unknown[]) =>
  reduce(empty, { type: "history", key, payload: { messages }, offset: 0, asked: 0 }).messages[0]?.tools[0]?.state;

test("the history says what was denied, also when the call is on an earlier page", () => {
  const call = {
    role: "assistant",
    content: [{ type: "toolCall", id: "c", name: "exec", arguments: { command: "git --version" } }],
  };
  const answer = {
    role: "toolResult",
    toolCallId: "c",
    toolName: "exec",
    isError: true,
    content: [{ type: "text", text: denied("user-denied") }],
  };
  expect(load([call, answer])).toBe("denied");
  expect(load([answer])).toBe("denied");
  expect(load([call, { ...answer, isError: false }])).toBe("done");
});
