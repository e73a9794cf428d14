import { renderToStaticMarkup } from "react-dom/server";
import { expect, test } from "vitest";
import type { ChatConnection } from "./connection";
import { approval, inquiry } from "./asked";
import { Prompts } from "./prompts";
import { empty } from "./state";
import { phaseWords } from "./words";

test.each(["constructor", "__proto__", "toString"])("a machine that uses %s as a name breaks no page", (name) => {
  const asked = inquiry({
    id: "i",
    questions: [{ questionId: name, question: "Which?", options: [{ label: "This" }] }],
  })!;
  const page = renderToStaticMarkup(
    <Prompts connection={{} as ChatConnection} chat={{ ...empty, inquiries: [asked] }} open onDone={() => undefined} />,
  );
  expect(page).toContain("Which?");
  expect(phaseWords(name)).toBeTypeOf("string");
});

const command = (text: string) => approval({ id: "a", request: { command: text } }, "exec")!.command;

test("a command to approve is shown in full, and cannot look like another", () => {
  expect(command("echo a \u202e# b\r\n\tc\u200b")).toBe("echo a \\u{202e}# b\\u{d}\n\tc\\u{200b}");
  expect(command(`${" ".repeat(20_000)}; rm -rf ~`)).toMatch(/rm -rf ~$/);
});

test("a request that a restart cancelled says so, and cannot be answered", () => {
  const asked = { ...approval({ id: "a", request: { command: "id" } }, "exec")!, over: true };
  const page = renderToStaticMarkup(
    <Prompts connection={{} as ChatConnection} chat={{ ...empty, approvals: [asked] }} open onDone={() => undefined} />,
  );
  expect(page).toContain("The agent restarted");
  expect(page).toContain("Dismiss");
  expect(page).not.toContain("Allow once");
});

const detail = (host: string) => approval({ id: "a", request: { command: "id", cwd: "/tmp", host } }, "exec")!.detail;

test("a request names the host of a command only if it is another one", () => {
  expect(detail("gateway")).toBe("in /tmp");
  expect(detail("node")).toBe("in /tmp\non node");
});

test.each([1e300, -1e300, 8_640_000_000_000_001])(
  "a machine's impossible deadline %d breaks no page",
  (expiresAtMs) => {
    const asked = approval({ id: "a", request: { command: "id" }, expiresAtMs }, "exec")!;
    const page = renderToStaticMarkup(
      <Prompts
        connection={{} as ChatConnection}
        chat={{ ...empty, approvals: [asked] }}
        open
        onDone={() => undefined}
      />,
    );
    expect(page).toContain("Allow once");
    expect(page).not.toContain("left");
  },
);
