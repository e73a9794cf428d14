import { atRest, changed, firstLine, keyboard, screen, settled } from "./desktop";
import { expect, firstDesktop, hasFocus, logIn, look, newEmail, password, signUp, test } from "./fixtures";

test("by mouse: the screen and the agent respond, side by side", async ({ page, context }, info) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);

  // Typed text appears.
  await screen(page).click();
  const before = await atRest(page);
  await page.keyboard.type("echo hello");
  await changed(page, before);
  await page.keyboard.press("Control+u");

  // Text from this computer is pasted on the desktop.
  const text = "grüße aus der ferne";
  await page.evaluate((t) => navigator.clipboard.writeText(t), text);
  await page.getByRole("textbox", { name: /message/i }).click();
  await screen(page).click(); // the clipboard is sent when the desktop gets the focus
  await page.keyboard.type("clear; echo '");
  await expect(async () => {
    const unpasted = await atRest(page); // without the keys typed before
    await page.keyboard.press("Shift+Insert");
    await changed(page, unpasted);
  }).toPass();
  await page.keyboard.type("'");
  await page.keyboard.press("Enter");
  // Text selected on the desktop reaches this computer's clipboard.
  await page.evaluate(() => navigator.clipboard.writeText("something else"));
  await expect(async () => {
    await screen(page).click({ position: await firstLine(page), clickCount: 3 });
    await expect.poll(() => page.evaluate(() => navigator.clipboard.readText()), { timeout: 3_000 }).toContain(text);
  }).toPass({ timeout: 60_000 });

  // A chat turn.
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill("Are you there?");
  await message.press("Enter");
  await expect(page.getByRole("log")).toContainText("demo agent", { timeout: 60_000 });
  await expect(page.getByRole("log")).toContainText("Are you there?");
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });
  await message.fill("/tool");
  await message.press("Enter");
  await expect(page.getByRole("log")).toContainText("Nothing was run", { timeout: 60_000 });
  await look(page, "workspace");

  // Moving the screen between the layouts keeps its connection.
  let sockets = 0;
  page.on("websocket", () => sockets++);
  for (const view of ["Desktop only", "Chat only", "Desktop and chat"])
    await page.getByRole("radio", { name: view }).check({ force: true });
  await expect(page.getByText(/^Connected/)).toBeVisible();
  await screen(page).click();
  const again = await atRest(page);
  await page.keyboard.type("ls");
  await changed(page, again);
  expect(sockets).toBe(0);
});

test("by keyboard alone: from sign-up to terminating the desktop", async ({ page, context }, info) => {
  test.slow(); // one stop and one start more than the others
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  // Presses Tab until the element with this name has the focus.
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

  // Into the screen and out again: it takes every key except the way out.
  await to(/^Desktop\. Press Ctrl, Alt and Shift together to leave it\.$/, "textarea");
  const before = await atRest(page);
  await page.keyboard.type("echo typed");
  await page.keyboard.press("Tab"); // Tab belongs to the desktop, too
  await changed(page, before);
  await expect(keyboard(page)).toBeFocused();
  await page.keyboard.press("Control+Alt+Shift");
  await expect(keyboard(page)).not.toBeFocused();

  await to("Skip the desktop");
  await page.keyboard.press("Enter");
  await to(/^Message/i, "textarea");
  await page.keyboard.type("hello");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("log")).toContainText("demo agent", { timeout: 60_000 });

  // Text copied from the message is pasted on the desktop.
  await page.keyboard.type("grüße");
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Control+c");
  await to(/^Desktop\. Press Ctrl, Alt and Shift together to leave it\.$/, "textarea");
  await page.keyboard.press("Control+u");
  await expect(async () => {
    const unpasted = await atRest(page); // without the keys typed before
    await page.keyboard.press("Shift+Insert");
    await changed(page, unpasted);
  }).toPass();
  await page.keyboard.press("Control+Alt+Shift");
  await expect(keyboard(page)).not.toBeFocused();

  // An API key for the agent.
  await to("Skip the desktop");
  await page.keyboard.press("Enter");
  await to("Account", "button");
  await page.keyboard.press("Enter");
  await expect(async () => {
    await page.keyboard.press("ArrowDown");
    await expect(page.getByRole("menuitem", { name: "API keys" })).toBeFocused({ timeout: 100 });
  }).toPass();
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

  // After a stop and a start, the focus stays with the desktop.
  await to("Desktops", "a");
  await page.keyboard.press("Enter");
  await to("Stop My desktop");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("button", { name: "Start My desktop" })).toBeVisible({ timeout: 60_000 });
  await expect(page.getByRole("article", { name: "My desktop" })).toBeFocused();
  await to("Start My desktop");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("article", { name: "My desktop" }).getByText("Ready")).toBeVisible({ timeout: 30_000 });
  await hasFocus(page);

  // Terminating.
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
  await expect(page.getByRole("button", { name: "Create my desktop" })).toBeVisible({ timeout: 60_000 });
});

test("an open workspace survives a server restart without loss or reload", async ({ page, server }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  await server.end("SIGKILL");
  await expect(page.getByText(/^Connected/)).toHaveCount(0, { timeout: 60_000 });
  await expect(page.getByText("Connection lost; retrying…")).toBeVisible();
  await look(page, "reconnecting");
  // A message written while disconnected is kept.
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill("Written while disconnected");
  await message.press("Enter");
  await expect(page.getByText("Written while disconnected")).toBeVisible();
  await server.run();
  await expect(page.getByText(/^Connected/)).toBeVisible({ timeout: 40_000 });
  await expect(page.getByRole("log")).toContainText("You said: “Written while disconnected”", { timeout: 30_000 });
  await expect(page.getByText("Connection lost; retrying…")).toHaveCount(0, { timeout: 30_000 });
  await screen(page).click();
  const before = await atRest(page);
  await page.keyboard.type("echo back");
  await changed(page, before);
});

test("revoking a session ends its open workspace", async ({ page, browser, server }, info) => {
  const email = await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const other = await browser.newContext({ baseURL: server.url });
  const there = await other.newPage();
  await logIn(there, email);
  await there.goto("/app/account");
  await there.getByRole("button", { name: /^End session of/ }).click();
  await expect(page.getByRole("heading", { name: "Log in" })).toBeVisible({ timeout: 60_000 });
  await expect(page.getByText("Your session has ended")).toBeVisible();
  await other.close();
});

test("a viewer without control cannot type", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  await page.getByRole("button", { name: "View only", exact: true }).click();
  await expect(page.getByRole("button", { name: "View only", exact: true })).toHaveAttribute("aria-pressed", "true");
  await expect(page.getByText(/^Connected|View only/).first()).toBeVisible();
  const before = await atRest(page);
  await screen(page).click({ position: { x: 300, y: 200 } });
  await page.keyboard.type("echo no");
  expect(await atRest(page)).toBe(before);
  // Otherwise typing works.
  await page.getByRole("button", { name: "View only", exact: true }).click();
  await expect(page.getByText(/^Connected/)).toBeVisible();
  await screen(page).click({ position: { x: 300, y: 200 } });
  await page.keyboard.type("echo yes");
  await changed(page, before);
});

test("the desktop-only view shows that the agent is waiting, and half-written answers are kept", async ({
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
  await expect(page.getByRole("region", { name: "Your answer" })).toBeVisible();
  await expect(message).toBeHidden();
  await look(page, "waits-for-answer");

  await page.getByRole("button", { name: "Show the chat" }).click();
  await expect(page.getByRole("radio", { name: /^Green/ })).toBeChecked();
  await page.getByRole("button", { name: "Do not answer" }).click();
  await expect(page).toHaveTitle(/^My desktop/);
  await expect(page.getByRole("radio", { name: "Chat only", exact: true })).toBeVisible();
  await expect(message).toBeFocused();
});

test("the screen is visible before the agent is ready, and messages written meanwhile are sent", async ({
  page,
}, info) => {
  await signUp(page, info);
  const id = await firstDesktop(page);
  await settled(page);
  // The real agent is in this state for half a minute.
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
  await screen(page).click();
  const before = await atRest(page);
  await page.keyboard.type("echo early");
  await changed(page, before);
  await expect(page.getByText("The agent is still starting.")).toBeVisible();
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill("Written before the agent was ready");
  await message.press("Enter");
  await look(page, "agent-starting");
  await strip.getByText("Log").click();
  await expect(strip.getByRole("region", { name: "Startup log" })).toBeVisible();

  // Readiness arrives as an event, and so does a new name.
  await page.unroute(own);
  await page.getByRole("button", { name: "More actions for My desktop" }).click();
  await page.getByRole("menuitem", { name: "Rename…" }).click();
  await page.getByRole("textbox", { name: "Name" }).fill("Ready by now");
  await page.keyboard.press("Enter");
  await expect(strip).toHaveCount(0);
  await expect(page.getByRole("log")).toContainText("You said: “Written before the agent was ready”", {
    timeout: 60_000,
  });
});
