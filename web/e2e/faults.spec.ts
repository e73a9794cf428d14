// A part that fails to load, and a request that is refused, affect nothing else.
import type { Page } from "@playwright/test";
import { expect, firstDesktop, hasFocus, look, signUp, test } from "./fixtures";

/** Nothing is preloaded: parts are requested when they are wanted. */
const noIdle = (page: Page) => page.addInitScript(() => (window.requestIdleCallback = () => 0));

/** Marks the page, to notice whether it is loaded again. */
const mark = (page: Page) => page.evaluate(() => void Object.assign(window, { marked: true }));
const marked = (page: Page) => page.evaluate(() => "marked" in window);

test("a menu and a dialog that cannot be loaded show an error and can be retried", async ({ page }, info) => {
  await noIdle(page);
  await signUp(page, info);
  await mark(page);
  const away = async (what: string) => {
    await page.route(`**/assets/${what}-*.js`, (route) => route.abort());
    return () => page.unroute(`**/assets/${what}-*.js`);
  };
  let back = await away("menu-popup");
  await page.getByRole("button", { name: "Account" }).click();
  const note = page.getByRole("alert").filter({ hasText: "could not be loaded" });
  await expect(note).toBeVisible();
  await expect(page.getByRole("button", { name: "Create my desktop" })).toBeVisible();
  await note.getByRole("button", { name: "Close" }).click();
  await expect(note).toHaveCount(0);
  await page.getByRole("button", { name: "Account" }).click();
  await expect(note).toBeVisible();
  await back();
  await note.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByRole("menuitem", { name: "Log out" })).toBeVisible();
  await page.keyboard.press("Escape");

  back = await away("dialog-popup");
  await page.getByRole("button", { name: "Choose a name and a size first" }).click();
  await expect(note).toBeVisible();
  await back();
  await note.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByRole("dialog", { name: "New desktop" })).toBeVisible();
  expect(await marked(page)).toBe(true);
});

test("a failed load is retried automatically", async ({ page }, info) => {
  await noIdle(page);
  await signUp(page, info);
  await page.route("**/assets/menu-popup-*.js", (route) => route.abort(), { times: 1 });
  await page.getByRole("button", { name: "Account" }).click();
  await expect(page.getByRole("menuitem", { name: "Log out" })).toBeVisible();
});

test("a page first opened while the server is down shows the dashboard's own error", async ({ page, server }, info) => {
  await noIdle(page);
  await signUp(page, info);
  await mark(page);
  await server.end();
  await page.getByRole("link", { name: "API keys" }).click();
  await expect(page.getByRole("heading", { name: "This page could not be loaded" })).toBeVisible();
  await look(page, "not-loaded");
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByRole("button", { name: "Try again" })).toBeVisible();
  await server.run();
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByText("Anthropic", { exact: true })).toBeVisible({ timeout: 60_000 });
  expect(await marked(page)).toBe(true);
});

test("pages are preloaded, so they open without the server", async ({ page, server }, info) => {
  await signUp(page, info);
  const loaded = () =>
    page.evaluate(() => performance.getEntriesByType("resource").map((e) => e.name.replace(/.*\/|-.*/g, "")));
  for (const part of ["KeysPage", "AboutPage", "AccountPage", "WorkspacePage", "menu", "dialog"])
    await expect.poll(loaded).toContain(part);
  await server.end();
  await page.getByRole("link", { name: "API keys" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "API keys" })).toBeVisible();
  await server.run();
});

test("a refusal ends the wait of its button, whatever else fails", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("link", { name: "Back to desktops" }).click();
  const stop = page.getByRole("button", { name: "Stop My desktop" });
  await expect(stop).toBeVisible();
  await page.clock.install();
  await page.route("**/api/instances**", (route) => route.abort());
  await page.route("**/api/instances/*/stop", (route) =>
    route.fulfill({
      status: 409,
      contentType: "application/problem+json",
      json: { title: "x", status: 409, code: "x", detail: "Not now." },
    }),
  );
  await stop.click();
  const note = page.getByRole("alert").filter({ hasText: "Not stopped" });
  await expect(note).toContainText("Not now.");
  await expect(stop).not.toHaveAttribute("aria-busy", "true");
  await expect(stop).toBeFocused();

  // The toast stays while the pointer or the focus is on it, and disappears later.
  await note.hover();
  await page.clock.runFor(20_000);
  await expect(note).toBeVisible();
  await page.mouse.move(0, 0);
  await page.clock.runFor(14_000);
  await expect(note).toBeVisible();
  await note.getByRole("button", { name: "Close" }).focus();
  await page.clock.runFor(20_000);
  await expect(note).toBeVisible();
  await stop.focus();
  await page.clock.runFor(16_000);
  await expect(note).toHaveCount(0);
  await hasFocus(page);
});

test("toasts cover no controls", async ({ page }, info) => {
  await signUp(page, info);
  const id = await firstDesktop(page);
  // A toast, from a stop that is refused.
  await page.route("**/api/instances/*/stop", (route) =>
    route.fulfill({
      status: 409,
      contentType: "application/problem+json",
      json: {
        title: "x",
        status: 409,
        code: "x",
        detail: "The machine is busy with something else. Try again later.",
      },
    }),
  );
  const covered = () =>
    page.evaluate(() => {
      const box = document.querySelector("section[aria-label=Notifications]")!.getBoundingClientRect();
      return [...document.querySelectorAll("main :is(a, button, input, textarea), header :is(a, button)")]
        .filter((e) => {
          const r = e.getBoundingClientRect();
          return r.width > 1 && r.bottom > box.top && r.top < box.bottom && r.right > box.left && r.left < box.right;
        })
        .map((e) => e.outerHTML);
    });
  for (const [width, height] of [
    [1280, 800],
    [320, 640],
  ] as const) {
    await page.setViewportSize({ width, height });
    for (const path of ["", `desktops/${id}?view=both`, `desktops/${id}?view=chat`]) {
      await page.goto(`/app/${path}`);
      if (path === "") await page.getByRole("button", { name: "Stop My desktop" }).click();
      else {
        await page.getByRole("button", { name: "More actions for My desktop" }).click();
        await page.getByRole("menuitem", { name: "Stop" }).click();
      }
      await expect(page.getByRole("alert").filter({ hasText: "Not stopped" })).toBeVisible();
      await page.screenshot({ path: `artifacts/toast-${width}-${path.slice(-4) || "list"}.png` });
      expect(await covered(), `${path} at ${width}`).toEqual([]);
    }
  }
});

test("on a slow connection a press has an immediate effect", async ({ page }, info) => {
  await noIdle(page);
  await signUp(page, info);
  let arrive: (() => void) | undefined;
  const arrived = new Promise<void>((resolve) => (arrive = resolve));
  await page.route("**/assets/WorkspacePage-*.js", async (route) => {
    await arrived;
    await route.continue();
  });
  await page.getByRole("button", { name: "Create my desktop" }).click();
  await expect(page.getByRole("main").getByText("Loading…")).toBeVisible();
  await expect(page.getByRole("button", { name: "Create my desktop" })).toHaveCount(0);
  arrive?.();
  await expect(page.getByRole("heading", { name: "My desktop" })).toBeVisible();
});

test("a page that fails shows an error and a way out", async ({ page, complaints }, info) => {
  await signUp(page, info);
  await page.route(/\/api\/instances\/01ARZ3NDEKTSV4RRFFQ69G5FAV$/, (route) =>
    route.fulfill({ json: { id: "01ARZ3NDEKTSV4RRFFQ69G5FAV", name: "x", status: "no such" } }),
  );
  await page.goto("/app/desktops/01ARZ3NDEKTSV4RRFFQ69G5FAV");
  await expect(page.getByRole("heading", { name: "This page stopped working" })).toBeVisible();
  await look(page, "broken");
  await page.getByRole("button", { name: "Go to desktops" }).click();
  await expect(page.getByRole("button", { name: "Create my desktop" })).toBeVisible();
  complaints.length = 0; // the test causes them
});

test("toasts are announced, also over an open dialog", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await page.route(/\/api\/instances\/[0-9A-Z]{26}$/, (route) =>
    route.request().method() === "PATCH"
      ? route.fulfill({
          status: 409,
          contentType: "application/problem+json",
          json: { title: "x", status: 409, code: "x", detail: "Not now." },
        })
      : route.continue(),
  );
  await page.getByRole("button", { name: "More actions for My desktop" }).click();
  await page.getByRole("menuitem", { name: "Rename…" }).click();
  const rename = page.getByRole("dialog").getByRole("button", { name: "Rename" });
  await page.getByRole("dialog").getByRole("textbox").fill("Other");
  await rename.click();
  const note = page.getByRole("alert").filter({ hasText: "Not renamed" }); // the role makes a screen reader announce it
  await expect(note).toBeVisible();
  await expect(rename).toBeFocused();
  await note.getByRole("button", { name: "Close" }).click();
  await expect(note).toHaveCount(0);
  await expect(page.getByRole("dialog")).toBeVisible();
});
