import { expect, firstDesktop, look, signUp, test } from "./fixtures";

test("a new page receives the focus, however it was opened", async ({ page }, info) => {
  await signUp(page, info);
  const main = page.getByRole("main");
  await expect(main).toBeFocused();
  await firstDesktop(page);
  await expect(main).toBeFocused();
  await page.getByRole("button", { name: "More actions for My desktop" }).click();
  await page.getByRole("menuitem", { name: "History" }).click();
  await expect(page.getByText("instance.requested")).toBeVisible();
  await expect(main).toBeFocused();
  await page.getByRole("link", { name: "API keys" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "API keys" })).toBeVisible();
  await expect(main).toBeFocused();
  await page.goBack();
  await expect(page.getByRole("heading", { level: 1, name: "My desktop" })).toBeVisible();
  await expect(main).toBeFocused();
  // Within a page, the focus stays in place.
  await page.getByRole("tab", { name: "History" }).focus();
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("tab", { name: "Diagnostics" })).toBeFocused();

  await page.goto("/app/desktops/01ARZ3NDEKTSV4RRFFQ69G5FAV/about");
  await expect(page.getByText("Page not found")).toBeVisible();
  await expect(main).toHaveCount(1);
  await look(page, "not-found");
  await page.goto("/app/nowhere");
  await expect(page.getByText("Page not found")).toBeVisible();
  await look(page, "not-found-at-all");
});

test("after a log-out the next user starts at the first page", async ({ page }, info) => {
  await signUp(page, info);
  await page.getByRole("link", { name: "API keys" }).click();
  await expect(page.getByText("Anthropic", { exact: true })).toBeVisible();
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("menuitem", { name: "Log out" }).click();
  await expect(page.getByRole("heading", { name: "Log in" })).toBeVisible();
  expect(new URL(page.url()).search).toBe("");
});

// Forced colours remove all backgrounds, except the system's own.
test("selections and buttons are visible in forced colours", async ({ page }, info) => {
  await signUp(page, info);
  await page.emulateMedia({ forcedColors: "active" });
  const border = (name: string) =>
    page.getByRole("button", { name }).evaluate((e) => getComputedStyle(e).borderTopWidth);
  expect(await border("Create my desktop")).not.toBe("0px");
  const id = await firstDesktop(page);
  const backgrounds = await page
    .getByRole("group", { name: "View" })
    .locator("label")
    .evaluateAll((all) => all.map((e) => getComputedStyle(e).backgroundColor));
  expect(new Set(backgrounds).size).toBe(2);
  await page.screenshot({ path: "artifacts/workspace-forced.png" });
  await page.goto(`/app/desktops/${id}/about`);
  await expect(page.getByRole("tab")).toHaveCount(2);
  const lines = await page.getByRole("tab").evaluateAll((all) => all.map((e) => getComputedStyle(e).borderBottomColor));
  expect(new Set(lines).size).toBe(2);
});

test("the first load is small: everything a browser fetches before the user acts", async ({ page }, info) => {
  // The preloads of an idle browser are for later, and only for logged-in users: the page does not wait for them.
  await page.addInitScript(() => {
    if (!location.pathname.endsWith("/login")) window.requestIdleCallback = () => 0;
  });
  const fetched = () =>
    page.evaluate(() =>
      (performance.getEntries() as PerformanceResourceTiming[])
        .filter((e) => ["navigation", "resource"].includes(e.entryType) && new URL(e.name).pathname.startsWith("/app/"))
        .map((e) => ({ name: e.name, bytes: e.encodedBodySize })),
    );
  const small = async () => {
    const files = await fetched();
    const total = files.reduce((sum, f) => sum + f.bytes, 0);
    expect(total, "bytes measured").toBeGreaterThan(100_000);
    expect(total, files.map((f) => `${f.bytes} ${f.name}`).join("\n")).toBeLessThanOrEqual(150_000);
  };
  await page.goto("/app/login", { waitUntil: "networkidle" });
  await small();
  await signUp(page, info);
  await page.goto("/app/");
  await expect(page.getByRole("button", { name: "Create my desktop" })).toBeVisible();
  await expect(page.getByText("@example.com")).toBeVisible();
  await small();
});
