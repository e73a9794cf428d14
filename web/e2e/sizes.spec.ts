import { devices, type Page } from "@playwright/test";
import { screen, settled } from "./desktop";
import { accessible, expect, firstDesktop, logIn, signUp, test } from "./fixtures";

const patience = { timeout: 40_000 }; // the size returns ten seconds after its owner has left

/** The size of the remote screen, as the page has it. */
const size = (page: Page) =>
  screen(page).evaluate((c) => [(c as HTMLCanvasElement).width, (c as HTMLCanvasElement).height].join("×"));

/** The size of the panel, which Match gives the remote screen. */
const panel = (page: Page) =>
  page.locator(".cloudbot-desktop").evaluate((e) => {
    const { width, height } = e.getBoundingClientRect();
    return [Math.floor(width), Math.floor(height)].join("×");
  });

const matches = (page: Page) =>
  expect.poll(async () => (await size(page)) === (await panel(page)), patience).toBe(true);

/** Opens the screen's menu, which a narrow bar has among the desktop's other tools. */
const openMenu = async (page: Page) => {
  const tools = page.getByRole("button", { name: "Desktop tools", expanded: false });
  if (await tools.isVisible()) await tools.click();
  await page.getByRole("button", { name: /^Screen: / }).click();
};

const choose = async (page: Page, role: "menuitem" | "menuitemradio", name: RegExp) => {
  await openMenu(page);
  await page.getByRole(role, { name }).click();
};

test("two viewers with different sizes: the size belongs to the one who works", async ({
  page,
  browser,
  server,
}, info) => {
  const email = await signUp(page, info);
  const id = await firstDesktop(page);
  await settled(page);

  // Alone, the viewer sets the size without choosing anything.
  await expect(page.getByRole("button", { name: "Screen: Match" })).toBeVisible();
  await matches(page);
  const wide = await size(page);
  await expect(page.getByText(/viewers/)).toHaveCount(0);

  const { defaultBrowserType: _, ...pixel } = devices["Pixel 7"]!;
  const context = await browser.newContext({ ...pixel, baseURL: server.url });
  const phone = await context.newPage();
  await logIn(phone, email);
  await phone.goto(`/app/desktops/${id}`);
  await expect(phone.getByText("2 viewers")).toBeVisible(patience);
  await expect(page.getByText("2 viewers. You set the size.")).toBeVisible(patience);
  await expect.poll(() => size(phone), patience).toBe(wide);
  await accessible(phone, "a second viewer on a phone");
  await openMenu(phone);
  await expect(phone.getByText("Another viewer sets the size; click or type here to take over")).toBeVisible();
  await phone.screenshot({ path: "artifacts/second-viewer-phone.png" });
  await phone.keyboard.press("Escape");
  expect(await size(page)).toBe(wide);

  await screen(phone).tap();
  await matches(phone);
  const narrow = await size(phone);
  expect(Number(narrow.split("×")[0])).toBeLessThan(500);
  await expect.poll(() => size(page), patience).toBe(narrow);
  await expect(page.getByText("2 viewers. Another sets the size; click or type to take over.")).toBeVisible();
  await accessible(page, "a screen whose size another viewer sets");
  await page.screenshot({ path: "artifacts/second-viewer.png" });

  // The connection breaks and comes back: the size stays.
  await context.setOffline(true);
  await expect(phone.getByText(/Reconnecting/)).toBeVisible(patience);
  await context.setOffline(false);
  await expect(phone.getByText("2 viewers")).toBeVisible(patience);
  expect(await size(page)).toBe(narrow);

  await context.close();
  await expect(page.getByText(/viewers/)).toHaveCount(0, patience);
  await expect.poll(() => size(page), patience).toBe(wide);
});

test("a phone leaves no narrow screen behind, and a reset is for all viewers", async ({
  page,
  browser,
  server,
}, info) => {
  const { defaultBrowserType: _, ...pixel } = devices["Pixel 7"]!;
  const context = await browser.newContext({ ...pixel, baseURL: server.url });
  const phone = await context.newPage();
  const email = await signUp(phone, info);
  const id = await firstDesktop(phone);
  await settled(phone);
  await matches(phone); // the default, too

  // Another viewer only watches, and the phone resets the size.
  await logIn(page, email);
  await page.goto(`/app/desktops/${id}`);
  await expect(page.getByText(/^2 viewers/)).toBeVisible(patience);
  await choose(page, "menuitemradio", /^Fit/);
  await choose(phone, "menuitem", /^Reset size/);
  await expect(phone.getByRole("button", { name: "Screen: Fit" })).toBeVisible();
  for (const each of [phone, page]) await expect.poll(() => size(each), patience).toBe("1280×800");

  await choose(phone, "menuitemradio", /^Match/);
  await matches(phone);
  await expect.poll(() => size(page), patience).not.toBe("1280×800");
  await context.close();
  await expect.poll(() => size(page), patience).toBe("1280×800");
});
