// What the dashboard says of the agent, and what the user allows it.
import { expect, firstDesktop, hasFocus, look, signUp, test } from "./fixtures";
import { Agent } from "./gateway";
import type { Page } from "@playwright/test";

const say = async (page: Page, text: string) => {
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill(text);
  await message.press("Enter");
};
const chatOnly = (page: Page) => page.getByRole("radio", { name: "Chat only" }).check({ force: true });
const ended = (page: Page) => expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });

/** Has the machine report this of its agent, in place of what it has. */
async function reports(page: Page, versions: Record<string, string>) {
  await page.route(/\/instances\/[0-9A-Z]{26}$/, async (route) => {
    const response = await route.fetch();
    const instance = (await response.json()) as { versions: Record<string, string> };
    await route.fulfill({ response, json: { ...instance, versions: { ...instance.versions, ...versions } } });
  });
}

test("the demo agent says what it is, and shows what it can", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await chatOnly(page);
  const log = page.getByRole("log");
  await expect(log).toContainText("This is the demo agent");
  await expect(log).not.toContainText("It sees the same desktop");
  await look(page, "agent-demo");

  await page.getByRole("button", { name: "Demo agent" }).click();
  await expect(page.getByRole("dialog")).toContainText("make agent");
  await look(page, "agent-demo-badge");
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();

  const requests = page.getByRole("list", { name: "Requests to try" }).getByRole("button");
  await expect(requests).toHaveCount(3);
  await requests.filter({ hasText: "what an answer can contain" }).click();
  await hasFocus(page);
  await expect(log.locator("pre code").first()).toBeVisible({ timeout: 60_000 });
  await expect(requests).toHaveCount(0);
  await ended(page);
  await page.getByRole("button", { name: /^New chat/ }).click();
  await requests.filter({ hasText: "Watch a demo" }).click();
  await expect(log.getByText("/demo", { exact: true })).toBeVisible();
  await expect(page.getByRole("textbox", { name: /message/i })).toHaveValue("");
});

test("a request to the real agent is written, not sent, and nothing is claimed that the machine does not report", async ({
  page,
}, info) => {
  const agent = await Agent.of(page, 0);
  await signUp(page, info);
  const id = await firstDesktop(page);
  const log = page.getByRole("log");
  const open = async (versions: Record<string, string>) => {
    await page.unrouteAll({ behavior: "wait" });
    await reports(page, versions);
    await page.goto(`/app/desktops/${id}?view=chat`);
    await expect(log).toContainText(/No messages yet|Add a key/);
  };

  await open({ agent: "openclaw", agent_sees: "desktop", model: "anthropic/claude-sonnet-5" });
  await expect(log).toContainText("It sees the same desktop as you");
  await expect(page.getByText("claude-sonnet-5")).toBeVisible();
  await expect(page.getByRole("button", { name: "Demo agent" })).toHaveCount(0);
  await look(page, "agent-real");
  const message = page.getByRole("textbox", { name: /message/i });
  await page.getByRole("button", { name: /today's weather/ }).click();
  await expect(message).toHaveValue("Open a browser and show me today's weather in Berlin");
  await expect(message).toBeFocused();
  expect(agent.sent).toEqual([]);
  await message.fill("");

  await open({ agent: "openclaw", agent_sees: "nothing", model: "openai/gpt" });
  await expect(log).not.toContainText("It sees");
  await expect(page.getByRole("button", { name: /screenshot|browser/i })).toHaveCount(0);

  await open({ agent: "later", agent_sees: "", model: "unknown" });
  await expect(log).toContainText("Ask the agent to do something");
  await expect(log).not.toContainText(/It sees|demo agent|Requests/);
  await expect(page.getByRole("list", { name: "Requests to try" })).toHaveCount(0);

  // Without a model the agent cannot think: the way to a key is beside its failure, too.
  await open({ agent: "openclaw", agent_sees: "desktop", model: "none" });
  await expect(log).toContainText("Add a key so that the agent can think");
  await expect(page.getByRole("list", { name: "Requests to try" })).toHaveCount(0);
  await look(page, "agent-no-model");
  await say(page, "Hello?");
  await expect.poll(() => agent.sent).toEqual(["Hello?"]);
  agent.chat("error", 1, { errorMessage: "No route-compatible authentication source" });
  await expect(log).toContainText("Add a key so that the agent can thinkNo route");
  await page.getByRole("link", { name: "Add a key" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "API keys" })).toBeVisible();
});

test("a denied command says so, and what is always allowed is taken back", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await chatOnly(page);
  const log = page.getByRole("log");
  const ask = page.getByRole("button", { name: "Always allow", exact: true });

  await say(page, "/approve");
  await page.getByRole("button", { name: "Deny" }).click({ timeout: 60_000 });
  await expect(log.getByText("Denied", { exact: true })).toBeVisible({ timeout: 60_000 });
  await ended(page);
  await look(page, "agent-denied");
  await page.reload();
  await expect(log.getByText("Denied", { exact: true })).toBeVisible();
  await expect(log.getByText("failed")).toHaveCount(0);

  await say(page, "/approve");
  await expect(ask).toBeVisible({ timeout: 60_000 });
  await expect(page.getByText(/exactly this command .* choose “Always allowed…”/)).toBeVisible();
  await look(page, "agent-always");
  await ask.click();
  await ended(page);
  await say(page, "/approve"); // it does not ask again
  await expect(log.getByText("done", { exact: false })).toHaveCount(2, { timeout: 60_000 });
  await expect(ask).toHaveCount(0);
  await ended(page);

  const list = async () => {
    await page.getByRole("button", { name: "More actions for this chat" }).click();
    await page.getByRole("menuitem", { name: /^Always allowed/ }).click();
  };
  await list();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByRole("listitem")).toHaveCount(1);
  await look(page, "agent-allowed");
  await dialog.getByRole("button", { name: "Remove rm -rf ~/Downloads/old" }).click();
  await expect(dialog.getByRole("listitem")).toHaveCount(0);
  await expect(dialog).toContainText("The agent asks again");
  await hasFocus(page);
  await dialog.getByRole("button", { name: "Close" }).click();
  await say(page, "/approve");
  await expect(ask).toBeVisible({ timeout: 60_000 });
});
