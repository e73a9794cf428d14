// Pictures that the agent leaves out of its events and history, as OpenClaw does.
import { accessible, expect, firstDesktop, look, signUp, test } from "./fixtures";
import { Agent } from "./gateway";

const dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const many = 40;
const left = (bytes: number, more: object = {}) => ({
  type: "image",
  mimeType: "image/png",
  omitted: true,
  bytes,
  ...more,
});
const use = (call: string, content: object[]) => [
  {
    role: "assistant",
    content: [{ type: "toolCall", id: call, name: "computer", arguments: { action: "screenshot" } }],
  },
  { role: "toolResult", toolCallId: call, toolName: "computer", content },
];

test("pictures are loaded when they come near, and a large or missing one says what to do", async ({ page }, info) => {
  const agent = await Agent.of(page, 0);
  const asked: string[] = [];
  let run = 1; // names change with each run
  let gone = true;
  const messages = () => [
    { role: "user", content: "look", __openclaw: { id: "q" } },
    ...Array.from({ length: many }, (_, n) =>
      use(`c${n}`, [{ type: "text", text: "screenshot" }, left(46_397, { artifactId: `${run}-c${n}` })]),
    ).flat(),
    ...use("gone", [left(46_397, { artifactId: `${run}-gone`, alt: "A lost picture" })]),
    ...use("large", [left(2_400_000, { artifactId: `${run}-large`, alt: "A large plan" })]),
    {
      role: "assistant",
      content: [
        { type: "text", text: "Here is the file." },
        {
          type: "image",
          artifactId: "m",
          url: "/api/chat/media/x/full",
          alt: "plan.png",
          mimeType: "image/png",
          sizeBytes: 13_393,
        },
      ],
    },
  ];
  agent.answers.set("chat.history", () => ({ messages: messages() }));
  agent.answers.set("artifacts.download", ({ artifactId }) => {
    asked.push(String(artifactId));
    if ((gone && String(artifactId).endsWith("gone")) || !String(artifactId).startsWith(`${run}-`)) return undefined;
    return { artifact: { mimeType: "image/png" }, encoding: "base64", data: dot };
  });
  await signUp(page, info);
  await firstDesktop(page);
  const log = page.getByRole("log");
  const shots = log.getByRole("img", { name: "Screenshot" });

  // The newest are near; the oldest are not.
  await expect(log).toContainText("plan.png (13 KB): a file on the desktop");
  await expect(log).toContainText("The agent could not send this picture.");
  await expect(shots.last()).toBeVisible();
  expect(asked).not.toContain("1-c0");
  expect(asked).not.toContain("1-large");
  await accessible(page, "pictures that are left out");
  await look(page, "pictures");

  await page.getByRole("button", { name: "Show picture" }).click();
  await expect(log.getByRole("img", { name: "A large plan" })).toBeVisible();
  gone = false;
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(log.getByRole("img", { name: "A lost picture" })).toBeVisible();

  // Another run makes the names invalid. Those far away are loaded by their new ones, and no longer kept near the end.
  run++;
  await log.evaluate((l) => (l.scrollTop = 0));
  await expect.poll(() => asked).toContain("2-c0");
  await expect(log.getByRole("img", { name: "A large plan" })).toHaveCount(0);
  await expect(shots.first()).toBeVisible();

  // A live event has no name at all.
  await page.getByRole("button", { name: "Jump to latest" }).click();
  agent.answers.set("chat.history", () => ({
    messages: [...messages(), ...use("live", [left(46_397, { artifactId: "2-live" })])],
  }));
  agent.used("live", 1, [left(46_397)]);
  await expect.poll(() => asked).toContain("2-live");
});
