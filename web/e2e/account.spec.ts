import { readFile } from "node:fs/promises";
import { expect, hasFocus, logIn, look, newEmail, password, signUp, test } from "./fixtures";

test.describe.configure({ mode: "serial" });

test("sign-up shows each error beside its field", async ({ page }, info) => {
  await page.goto("/app/signup");
  const create = page.getByRole("button", { name: "Create account" });
  await create.click();
  await expect(page.getByText("Enter your e-mail address.")).toBeVisible();
  await expect(page.getByText("Use at least 8 characters.")).toBeVisible();
  await expect(page.getByLabel("E-mail")).toBeFocused();
  await look(page, "sign-up-errors");

  await page.getByLabel("E-mail").fill("someone");
  await page.getByLabel("Password", { exact: true }).fill("x".repeat(257));
  await create.click();
  await expect(page.getByText("This is not an e-mail address")).toBeVisible();
  await expect(page.getByText("Use at most 256 characters.")).toBeVisible();

  // Errors that only the server knows.
  await page.getByLabel("E-mail").fill(newEmail(info));
  await page.getByLabel("Password", { exact: true }).fill("password123");
  await create.click();
  await expect(page.getByLabel("Password", { exact: true })).toHaveAttribute("aria-invalid", "true");
  await expect(page.getByLabel("Password", { exact: true })).toBeFocused();
});

test("an address can sign up once, and a wrong password is refused without naming the wrong field", async ({
  page,
  context,
}, info) => {
  const email = await signUp(page, info);
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("menuitem", { name: "Log out" }).click();
  await expect(page.getByRole("heading", { name: "Log in" })).toBeVisible();
  await look(page, "log-in");

  await page.getByRole("link", { name: "Create an account" }).click();
  await page.getByLabel("E-mail").fill(email.toUpperCase());
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Create account" }).click();
  await expect(page.getByLabel("E-mail")).toHaveAttribute("aria-invalid", "true");

  await page.getByRole("link", { name: "Log in" }).click();
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password", { exact: true }).fill("not the password");
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByRole("alert")).toBeVisible();
  await expect(page.getByRole("button", { name: "Log in" })).toBeFocused(); // it does not show which of the two is wrong

  // A page that needs an account opens after the log-in.
  await page.goto("/app/keys");
  await expect(page).toHaveURL(/login\?next=/);
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByRole("heading", { name: "API keys" })).toBeVisible();

  // Another site's address is ignored.
  await page.evaluate(() => localStorage.clear());
  await page.goto("/app/login?next=//evil.example/");
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByRole("button", { name: "Create my desktop" })).toBeVisible();
  expect(new URL(page.url()).pathname).toBe("/app/");
  await context.close();
});

test("an ended session logs out its browser immediately", async ({ page, browser, server }, info) => {
  const email = await signUp(page, info);
  const other = await browser.newContext({ baseURL: server.url });
  const there = await other.newPage();
  await logIn(there, email);
  await expect(there.getByRole("button", { name: "Create my desktop" })).toBeVisible();

  await page.goto("/app/account");
  await expect(page.getByText("This session")).toHaveCount(1);
  await look(page, "account");
  const [file] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Download your data" }).click(),
  ]);
  expect(file.suggestedFilename()).toMatch(/^cloudbot-\d{4}-\d\d-\d\d\.zip$/);
  expect((await readFile(await file.path())).subarray(0, 2).toString()).toBe("PK");
  await page.getByRole("button", { name: /^End session of/ }).click();
  await expect(page.getByRole("button", { name: /^End session of/ })).toHaveCount(0);
  await hasFocus(page);
  await expect(there.getByRole("heading", { name: "Log in" })).toBeVisible({ timeout: 60_000 });
  await expect(there.getByText("Your session has ended")).toBeVisible();
  await other.close();
});

test("a changed password ends the other sessions", async ({ page, browser, server }, info) => {
  const email = await signUp(page, info);
  const other = await browser.newContext({ baseURL: server.url });
  const there = await other.newPage();
  await logIn(there, email);
  await expect(there.getByRole("button", { name: "Create my desktop" })).toBeVisible();

  await page.goto("/app/account");
  await page.getByLabel("Current password", { exact: true }).fill("wrong wrong wrong");
  await page.getByLabel("New password", { exact: true }).fill("quite another phrase");
  await page.getByRole("button", { name: "Change password" }).click();
  await expect(page.getByLabel("Current password", { exact: true })).toHaveAttribute("aria-invalid", "true");
  await expect(page.getByLabel("Current password", { exact: true })).toBeFocused();
  await page.getByLabel("Current password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Change password" }).click();
  await expect(page.getByText("Password changed")).toBeVisible();
  await expect(there.getByRole("heading", { name: "Log in" })).toBeVisible({ timeout: 60_000 });
  await other.close();
});

test("tabs share a session: one refresh serves both, and a log-out ends both", async ({ page, context }, info) => {
  await signUp(page, info);
  const second = await context.newPage();
  await second.goto("/app/keys");
  await expect(second.getByRole("heading", { name: "API keys" })).toBeVisible();
  // The access token becomes invalid in both tabs; both need a new one at the same time.
  let refreshes = 0;
  await context.route("**/api/auth/refresh", (route) => {
    refreshes++;
    return route.continue();
  });
  await page.evaluate(() => {
    const s = JSON.parse(localStorage.getItem("cloudbot.session")!);
    localStorage.setItem("cloudbot.session", JSON.stringify({ ...s, access: `${s.access}x` }));
  });
  await Promise.all([
    page.evaluate(() => document.querySelector<HTMLAnchorElement>('a[href="/app/keys"]')!.click()),
    second.evaluate(() => document.querySelector<HTMLAnchorElement>('a[href="/app/"]')!.click()),
  ]);
  await expect(page.getByRole("heading", { name: "API keys" })).toBeVisible();
  await expect(page.getByText("Anthropic", { exact: true })).toBeVisible();
  await expect(second.getByRole("button", { name: "Create my desktop" })).toBeVisible();
  expect(refreshes).toBe(1);

  await page.bringToFront();
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("menuitem", { name: "Log out" }).click();
  await expect(second.getByRole("heading", { name: "Log in" })).toBeVisible();
});

test("a new account sees nothing of the previous one, even in a tab that missed both log-ins", async ({
  page,
  context,
}, info) => {
  const first = await signUp(page, info);
  await page.goto("/app/login");
  await expect(page.getByRole("button", { name: "Create my desktop" })).toBeVisible(); // logged in, so the log-in page is skipped
  await page.getByRole("button", { name: "Create my desktop" }).click();
  await page.getByRole("link", { name: "Back to desktops" }).click();
  await expect(page.getByRole("article", { name: "My desktop" })).toBeVisible();

  const second = await context.newPage();
  await second.goto("/app/account");
  await expect(second.getByText(first).first()).toBeVisible();
  // Two changes at once: one event arrives, and the storage holds tokens before and after.
  const email = newEmail(info);
  await second.evaluate(async (body) => {
    const answer = await fetch("/api/auth/signup", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
    });
    const { access_token: access, refresh_token: refresh } = (await answer.json()) as {
      access_token: string;
      refresh_token: string;
    };
    localStorage.setItem(
      "cloudbot.session",
      JSON.stringify({ access, refresh, expires: Date.now() + 3_600_000, login: "another" }),
    );
  }, JSON.stringify({ email, password }));
  await expect(page.getByRole("button", { name: "Create my desktop" })).toBeVisible();
  await expect(page.getByText(email).first()).toBeVisible();
  await expect(page.getByText(first)).toHaveCount(0);
});

test("eight tabs share one event stream, which outlives the tab that holds it", async ({ page, context }, info) => {
  let streams = 0;
  context.on("request", (r) => void (r.url().endsWith("/api/events") && streams++));
  await signUp(page, info);
  const tabs = [];
  for (let i = 0; i < 7; i++) {
    const tab = await context.newPage(); // more tabs than the six connections
    await tab.goto("/app/");
    await expect(tab.getByRole("button", { name: "Create my desktop" })).toBeVisible();
    tabs.push(tab);
  }
  expect(streams).toBe(1);
  await page.close();
  await expect.poll(() => streams).toBe(2);
  await tabs[3]!.bringToFront();
  await tabs[3]!.getByRole("button", { name: "Create my desktop" }).click();
  await expect(tabs[3]!).toHaveURL(/desktops/);
  for (const i of [0, 6]) await expect(tabs[i]!.getByRole("article", { name: "My desktop" })).toBeVisible();
  expect(streams).toBe(2);
});
