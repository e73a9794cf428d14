import { at, atRest, changed, firstLine, pixels, screen, settled } from "./desktop";
import { expect, firstDesktop, hasFocus, logIn, look, newEmail, password, signUp, test } from "./fixtures";

test("by mouse: a screen that answers, an agent that answers, and both side by side", async ({
  page,
  context,
}, info) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);

  // What is typed is seen.
  const before = await pixels(page);
  await screen(page).click();
  await page.keyboard.type("echo hello");
  await changed(page, before);
  await page.keyboard.press("Control+u");

  // From here to there: this computer's text is pasted there.
  const text = "grüße aus der ferne";
  await page.evaluate((t) => navigator.clipboard.writeText(t), text);
  await page.getByRole("textbox", { name: /message/i }).click();
  await screen(page).click(); // the clipboard is handed over with the focus
  await page.keyboard.type("clear; echo '");
  await expect(async () => {
    const unpasted = await pixels(page);
    await page.keyboard.press("Shift+Insert");
    await changed(page, unpasted);
  }).toPass();
  await page.keyboard.type("'");
  await page.keyboard.press("Enter");
  // And back: what is selected there is this computer's clipboard.
  await page.evaluate(() => navigator.clipboard.writeText("something else"));
  await expect(async () => {
    await screen(page).click({ position: await at(page, firstLine.x, firstLine.y), clickCount: 3 });
    await expect.poll(() => page.evaluate(() => navigator.clipboard.readText()), { timeout: 3_000 }).toContain(text);
  }).toPass({ timeout: 20_000 });

  // A chat turn.
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill("Are you there?");
  await message.press("Enter");
  await expect(page.getByRole("log")).toContainText("stand-in", { timeout: 20_000 });
  await expect(page.getByRole("log")).toContainText("Are you there?");
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 20_000 });
  await message.fill("/tool");
  await message.press("Enter");
  await expect(page.getByRole("log")).toContainText("Nothing was run", { timeout: 20_000 });
  await look(page, "workspace");

  // Moving the screen between the layouts keeps its connection.
  let sockets = 0;
  page.on("websocket", () => sockets++);
  for (const view of ["Desktop only", "Chat only", "Desktop and chat"])
    await page.getByRole("radio", { name: view }).check({ force: true });
  await expect(page.getByText(/^Connected/)).toBeVisible();
  const again = await pixels(page);
  await screen(page).click();
  await page.keyboard.type("ls");
  await changed(page, again);
  expect(sockets).toBe(0);
});

test("by keyboard alone: from sign-up to the end of the desktop", async ({ page, context }, info) => {
  test.slow(); // a stop and a start more than the others
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  // Moves the focus with Tab until it is on what has this name.
  const to = async (name: string | RegExp, role?: string) => {
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press("Tab");
      const here = await page.evaluate(() => {
        const e = document.activeElement as HTMLElement | null;
        const label =
          e?.getAttribute("aria-label") ??
          (e instanceof HTMLInputElement ? (e.labels?.[0]?.textContent ?? "") : (e?.textContent ?? ""));
        return { name: label.trim(), role: e?.getAttribute("role") ?? e?.tagName.toLowerCase() ?? "" };
      });
      if ((typeof name === "string" ? here.name === name : name.test(here.name)) && (!role || here.role === role))
        return;
    }
    throw new Error(`Tab does not reach ${name}`);
  };
  await page.goto("/app/signup");
  await to("E-mail");
  await page.keyboard.type(newEmail(info));
  await to("Password");
  await page.keyboard.type(password);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("button", { name: "Create my desktop" })).toBeVisible();
  await to("Create my desktop");
  await page.keyboard.press("Enter");
  await settled(page);

  // Into the screen, and out of it again: it takes every key but the way out.
  await to(/^Desktop\. Press Ctrl, Alt and Shift together to leave it\.$/, "application");
  const before = await pixels(page);
  await page.keyboard.type("echo typed");
  await page.keyboard.press("Tab"); // the desktop's, too
  await changed(page, before);
  await expect(screen(page)).toBeFocused();
  await page.keyboard.press("Control+Alt+Shift");
  await expect(screen(page)).not.toBeFocused();

  await to("Skip the desktop");
  await page.keyboard.press("Enter");
  await to(/^Message/i, "textarea");
  await page.keyboard.type("hello");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("log")).toContainText("stand-in", { timeout: 20_000 });

  // From here to there: copied out of the message, pasted there.
  await page.keyboard.type("grüße");
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Control+c");
  await to(/^Desktop\. Press Ctrl, Alt and Shift together to leave it\.$/, "application");
  await page.keyboard.press("Control+u");
  await expect(async () => {
    const unpasted = await pixels(page);
    await page.keyboard.press("Shift+Insert");
    await changed(page, unpasted);
  }).toPass();
  await page.keyboard.press("Control+Alt+Shift");
  await expect(screen(page)).not.toBeFocused();

  // A key for the agent.
  await to("Skip the desktop");
  await page.keyboard.press("Enter");
  await to("API keys", "a");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "API keys" })).toBeVisible();
  await to("Set key for Anthropic");
  await page.keyboard.press("Enter");
  await expect(page.getByLabel("API key", { exact: true })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.getByText("Paste the key here.")).toBeVisible();
  await page.keyboard.type("sk-ant-canary-00000000000000001234");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await expect(page.getByText("1234")).toBeVisible();

  // Stopped, and started again: the focus stays with the desktop.
  await to("Desktops", "a");
  await page.keyboard.press("Enter");
  await to("Stop My desktop");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("button", { name: "Start My desktop" })).toBeVisible({ timeout: 20_000 });
  await expect(page.getByRole("article", { name: "My desktop" })).toBeFocused();
  await to("Start My desktop");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("article", { name: "My desktop" }).getByText("Ready")).toBeVisible({ timeout: 30_000 });
  await hasFocus(page);

  // The end of it.
  await to("More actions for My desktop");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("menu")).toBeVisible();
  await page.keyboard.press("End");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("alertdialog")).toBeVisible();
  await page.keyboard.press("Shift+Tab");
  await expect(page.getByRole("alertdialog").getByRole("textbox")).toBeFocused();
  await page.keyboard.type("My desktop");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("button", { name: "Create my desktop" })).toBeVisible({ timeout: 20_000 });
});

test("a server that is restarted under an open workspace: nothing is lost, nobody reloads", async ({
  page,
  server,
}, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  await server.end("SIGKILL");
  await expect(page.getByText(/^Connected/)).toHaveCount(0, { timeout: 20_000 });
  await expect(page.getByText("Connection lost; retrying…")).toBeVisible();
  await look(page, "reconnecting");
  // What is said meanwhile is kept.
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill("Said while nobody listened");
  await message.press("Enter");
  await expect(page.getByText("Said while nobody listened")).toBeVisible();
  await server.run();
  await expect(page.getByText(/^Connected/)).toBeVisible({ timeout: 40_000 });
  await expect(page.getByRole("log")).toContainText("You said: “Said while nobody listened”", { timeout: 30_000 });
  await expect(page.getByText("Connection lost; retrying…")).toHaveCount(0, { timeout: 30_000 });
  const before = await pixels(page);
  await screen(page).click();
  await page.keyboard.type("echo back");
  await changed(page, before);
});

test("a session that is revoked ends the open workspace", async ({ page, browser, server }, info) => {
  const email = await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const other = await browser.newContext({ baseURL: server.url });
  const there = await other.newPage();
  await logIn(there, email);
  await there.goto("/app/account");
  await there.getByRole("button", { name: /^End session of/ }).click();
  await expect(page.getByRole("heading", { name: "Log in" })).toBeVisible({ timeout: 15_000 });
  await expect(page.getByText("Your session has ended")).toBeVisible();
  await other.close();
});

test("who only views cannot type", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  await page.getByRole("button", { name: "View only", exact: true }).click();
  await expect(page.getByRole("button", { name: /take control/ })).toBeVisible();
  await expect(page.getByText(/^Connected|View only/).first()).toBeVisible();
  const before = await atRest(page);
  await screen(page).click({ position: { x: 300, y: 200 } });
  await page.keyboard.type("echo no");
  expect(await atRest(page)).toBe(before);
  // And who takes control again can.
  await page.getByRole("button", { name: /take control/ }).click();
  await expect(page.getByText(/^Connected/)).toBeVisible();
  await screen(page).click({ position: { x: 300, y: 200 } });
  await page.keyboard.type("echo yes");
  await changed(page, before);
});

test("whoever looks at the desktop alone learns that the agent waits, and what is half answered stays", async ({
  page,
}, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill("/ask");
  await message.press("Enter");
  await page.getByRole("radio", { name: /^Green/ }).check();
  await page.getByRole("radio", { name: "Desktop only" }).check({ force: true });

  await expect(page).toHaveTitle(/^Your answer is needed · My desktop/);
  await expect(page.getByRole("radio", { name: "Chat only, the agent is waiting for your answer" })).toBeVisible();
  await expect(
    page.getByRole("status").filter({ hasText: "The agent is waiting for your answer." }).first(),
  ).toBeVisible();
  await expect(message).toBeHidden();
  await look(page, "waits-for-answer");

  await page.getByRole("button", { name: "Show the chat" }).click();
  await expect(page.getByRole("radio", { name: /^Green/ })).toBeChecked();
  await page.getByRole("button", { name: "Do not answer" }).click();
  await expect(page).toHaveTitle(/^My desktop/);
  await expect(page.getByRole("radio", { name: "Chat only", exact: true })).toBeVisible();
  await expect(message).toBeFocused();
});

test("the screen is there before the agent is, and what is written meanwhile is sent", async ({ page }, info) => {
  await signUp(page, info);
  const id = await firstDesktop(page);
  await settled(page);
  // As it is for half a minute with the real agent.
  const own = new RegExp(`/api/instances/${id}$`);
  await page.route(own, async (route) => {
    const answer = await route.fetch();
    const body =
      route.request().method() === "GET"
        ? {
            ...((await answer.json()) as object),
            ready: false,
            phase: "agent",
            phase_detail: "Agent: OpenClaw is starting.",
            progress: 80,
          }
        : undefined;
    await route.fulfill({ response: answer, ...(body && { json: body }) });
  });
  await page.reload();
  const strip = page.getByRole("region", { name: "Agent startup" });
  await expect(strip.getByRole("progressbar")).toBeVisible();
  await expect(strip).toContainText("Starting the agent");
  await expect(page.getByText(/^Connected/)).toBeVisible();
  const before = await pixels(page);
  await screen(page).click();
  await page.keyboard.type("echo early");
  await changed(page, before);
  await expect(page.getByText("The agent is still starting.")).toBeVisible();
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill("Said before you were there");
  await message.press("Enter");
  await look(page, "agent-starting");
  await strip.getByText("Log").click();
  await expect(strip.getByRole("region", { name: "Startup log" })).toBeVisible();

  // Its readiness comes as an event; a new name is one, too.
  await page.unroute(own);
  await page.getByRole("button", { name: /^More for/ }).click();
  await page.getByRole("menuitem", { name: "Rename…" }).click();
  await page.getByRole("textbox", { name: "Name" }).fill("Ready by now");
  await page.keyboard.press("Enter");
  await expect(strip).toHaveCount(0);
  await expect(page.getByRole("log")).toContainText("You said: “Said before you were there”", { timeout: 20_000 });
});

test("where there is little height one can still write", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  for (const view of ["Chat only", "Desktop and chat"])
    await page.getByRole("radio", { name: view }).check({ force: true });
  const message = page.getByRole("textbox", { name: /message/i });
  for (const height of [380, 320]) {
    await page.setViewportSize({ width: 640, height });
    await expect(message).toBeInViewport({ ratio: 1 });
    await expect(page.getByRole("button", { name: "Send", exact: true })).toBeInViewport({ ratio: 1 });
    await message.fill("in sight");
    // With its outline, too.
    expect(
      await message.evaluate((m) => innerHeight - m.closest("form")!.getBoundingClientRect().bottom),
      `at ${height}`,
    ).toBeGreaterThanOrEqual(0);
  }
  await page.screenshot({ path: "artifacts/little-height.png" });
});
