import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test as base, expect, type Page, type TestInfo } from "@playwright/test";
import { Server } from "./server";

export { expect };

export const password = "correct horse battery";

let accounts = 0;
export const newEmail = (info: TestInfo) => `u${info.workerIndex}-${accounts++}@example.com`;

type Fixtures = {
  /** Errors that pages reported; a test that expects some removes them. */
  complaints: string[];
};

export const test = base.extend<Fixtures, { server: Server }>({
  server: [
    // oxlint-disable-next-line no-empty-pattern -- a fixture takes a pattern, this one nothing of it
    async ({}, use) => {
      const server = await Server.start();
      await use(server);
      await server.remove();
    },
    { scope: "worker", timeout: 90_000 },
  ],
  baseURL: async ({ server }, use) => use(server.url),
  // Each test has its own address, because sign-ups are limited by address.
  extraHTTPHeaders: async ({}, use) => use({ "X-Forwarded-For": `198.51.100.${(accounts % 250) + 1}` }), // oxlint-disable-line no-empty-pattern
  complaints: [
    async ({ context }, use) => {
      const list: string[] = [];
      const listen = (page: Page) => {
        page.on("pageerror", (e) => list.push(`page error: ${e.message}`));
        page.on("console", (m) => {
          // The browser logs refusals that the page handles, and noVNC logs data that arrives after its end: neither is
          // a fault.
          if (
            m.type() === "error" &&
            !/^Failed to load resource|^WebSocket connection to|ERR_CONNECTION_REFUSED|^Got data while disconnected/.test(
              m.text(),
            )
          )
            list.push(m.text());
          if (m.text().includes("Content Security Policy")) list.push(m.text());
        });
      };
      context.on("page", listen);
      await use(list);
      expect(list, "errors that the page reported").toEqual([]);
    },
    { auto: true },
  ],
});

/** Opens a new account on the page and returns its e-mail address. */
export async function signUp(page: Page, info: TestInfo): Promise<string> {
  const email = await openAccount(page, info);
  await expect(page.getByRole("button", { name: "Create my desktop" })).toBeVisible();
  return email;
}

/** signUp without waiting for the first page, which differs where plans are required. */
export async function openAccount(page: Page, info: TestInfo): Promise<string> {
  const email = newEmail(info);
  await page.goto("/");
  await page.getByRole("link", { name: "Create an account" }).click();
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Create account" }).click();
  return email;
}

export async function logIn(page: Page, email: string) {
  await page.goto("/app/login");
  await page.getByLabel("E-mail").fill(email);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page).not.toHaveURL(/\/login/);
}

/** Creates a desktop on the page, and waits until it is ready. */
export async function firstDesktop(page: Page) {
  await page.getByRole("button", { name: "Create my desktop" }).click();
  await expect(page).toHaveURL(/\/app\/desktops\/[0-9A-Z]{26}/);
  // Until then the boot is shown in place of the screen.
  await expect(page.getByRole("region", { name: /^Desktop of / })).toBeVisible({ timeout: 30_000 });
  return page.url().match(/desktops\/([0-9A-Z]{26})/)![1]!;
}

/** Stops the open desktop from its menu. The machine reports an answer's end a moment later; until then, Stop asks. */
export async function stopDesktop(page: Page) {
  await page.getByRole("button", { name: /^More actions for My desktop/ }).click();
  await page.getByRole("menuitem", { name: "Stop" }).click();
  const confirm = page.getByRole("alertdialog").getByRole("button", { name: "Stop", exact: true });
  await expect(confirm.or(page.getByText(/^Stopp(ing|ed)$/)).first()).toBeVisible({ timeout: 60_000 });
  if (await confirm.isVisible()) await confirm.click();
}

/** Opens the API keys from the page of a desktop. */
export async function toKeys(page: Page) {
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("menuitem", { name: "API keys" }).click();
}

/** A user with a keyboard still has the focus, whatever disappeared. */
export const hasFocus = (page: Page) =>
  expect.poll(() => page.evaluate(() => document.activeElement?.tagName), "what has the focus").not.toBe("BODY");

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

type AxeResult = {
  violations: { id: string; impact: string; help: string; nodes: { html: string; failureSummary: string }[] }[];
};

async function fits(page: Page, name: string) {
  const over = await page.evaluate(() => document.documentElement.scrollHeight - window.innerHeight);
  expect(over, `${name}: pixels below the window, which would take its bar away when scrolled`).toBeLessThanOrEqual(0);
}

/** Runs axe on the page: WCAG 2.2 A and AA, no serious or critical violation. */
export async function accessible(page: Page, name: string) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axeSource);
  const { violations } = await page.evaluate<AxeResult>(
    `axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"] })`,
  );
  const bad = violations.filter((v) => v.impact === "serious" || v.impact === "critical");
  expect(
    bad.map((v) => `${v.id}: ${v.help}\n${v.nodes.map((n) => `  ${n.html}\n  ${n.failureSummary}`).join("\n")}`),
    `axe on ${name}`,
  ).toEqual([]);
}

/** Checks a page in light and dark, wide and narrow; keeps screenshots. */
export async function look(page: Page, name: string) {
  await page.bringToFront(); // a tab behind another one is drawn once a second: each action on it takes two
  for (const scheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    await page.screenshot({ path: `artifacts/${name}-${scheme}.png` });
    await accessible(page, `${name}, ${scheme}`);
    await fits(page, `${name}, ${scheme}`);
  }
  const size = page.viewportSize()!;
  await page.setViewportSize({ width: 320, height: 640 });
  await page.screenshot({ path: `artifacts/${name}-narrow.png` });
  await accessible(page, `${name}, narrow`);
  await fits(page, `${name}, narrow`);
  const over = await page.evaluate(() =>
    Math.max(...[...document.querySelectorAll("html, main, header")].map((e) => e.scrollWidth - e.clientWidth)),
  );
  expect(over, `${name}: pixels beyond 320`).toBeLessThanOrEqual(0);
  await page.setViewportSize(size);
  await page.emulateMedia({ colorScheme: "light", reducedMotion: null });
}
