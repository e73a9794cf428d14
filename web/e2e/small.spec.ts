// Small windows: a phone, upright and turned, and a window of 1280 × 800 at 200 % zoom, which is one of 640 × 400.
import { devices, type Page } from "@playwright/test";
import { changed, keyboard, pixels, screen, settled } from "./desktop";
import { accessible, expect, firstDesktop, signUp, test } from "./fixtures";

const { defaultBrowserType: _, ...pixel } = devices["Pixel 7"]!;
const view = (page: Page, name: string) => page.getByRole("radio", { name, exact: true });
const choose = (page: Page, name: string) => view(page, name).check({ force: true });
const both = "Desktop and chat";
const message = (page: Page) => page.getByRole("textbox", { name: /message/i });
const stage = (page: Page) => page.locator(".cloudbot-desktop");
const size = async (page: Page) => (await stage(page).boundingBox())!;

/** Checks that nothing is beyond the window's sides, and that an open dialog or menu is within the window. */
async function inside(page: Page, name: string) {
  const out = await page.evaluate(() => {
    const over: string[] = [];
    for (const e of [document.documentElement, ...document.querySelectorAll("main, header")])
      if (e.scrollWidth > e.clientWidth)
        over.push(`${e.tagName} scrolls sideways: ${e.scrollWidth} > ${e.clientWidth}`);
    if (document.documentElement.scrollHeight > innerHeight) over.push("the page is higher than the window");
    for (const e of document.querySelectorAll("a, button, input, select, textarea, summary")) {
      const r = e.getBoundingClientRect();
      if (r.width <= 2 || r.height <= 2 || !e.checkVisibility({ visibilityProperty: true })) continue;
      let up = e.parentElement; // up to what scrolls sideways by itself
      while (up && !(up.scrollWidth > up.clientWidth && /auto|scroll/.test(getComputedStyle(up).overflowX)))
        up = up.parentElement;
      if (!up && (r.left < -1 || r.right > innerWidth + 1)) over.push(`beyond the side: ${e.outerHTML.slice(0, 120)}`);
    }
    for (const e of document.querySelectorAll("[role=dialog], [role=alertdialog], [role=menu]")) {
      const r = e.getBoundingClientRect();
      if (r.left < 0 || r.top < 0 || r.right > innerWidth + 1 || r.bottom > innerHeight + 1)
        over.push(`${e.getAttribute("role")} of ${Math.round(r.width)} × ${Math.round(r.height)} beyond the window`);
    }
    return over;
  });
  expect(out, name).toEqual([]);
}

async function lookAt(page: Page, name: string) {
  const { width, height } = page.viewportSize()!;
  const at = `${name} at ${width} × ${height}`;
  await page.screenshot({ path: `artifacts/small-${name}-${width}.png` });
  await inside(page, at);
  await accessible(page, at);
}

test("a window with room for one shows the desktop or the chat, and both again when there is room", async ({
  page,
}, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  let sockets = 0;
  page.on("websocket", () => sockets++);
  await choose(page, "Chat only");
  await choose(page, both);
  await expect(page).toHaveURL(/view=both/);

  await page.setViewportSize({ width: 640, height: 400 });
  await expect(view(page, both)).toHaveCount(0);
  await expect(view(page, "Desktop only")).toBeChecked();
  expect(await size(page)).toMatchObject({ width: 640, height: 355 });
  await expect(message(page)).toBeHidden();
  for (const name of [/^Take control/, /^View only/, /^Clipboard/, /^Keys/, /^Screen/, "Full screen", /^More actions/])
    await expect(page.getByRole("button", { name }), String(name)).toBeInViewport({ ratio: 1 });
  await lookAt(page, "desktop");
  const before = await pixels(page);
  await screen(page).click();
  await page.keyboard.type("echo small");
  await changed(page, before);

  // The quick switch keeps what was chosen.
  await choose(page, "Chat only");
  await expect(page).toHaveURL(/view=both/);
  await expect(stage(page)).toBeHidden();
  for (const height of [400, 380, 320]) {
    await page.setViewportSize({ width: 640, height });
    await expect(message(page)).toBeInViewport({ ratio: 1 });
    await expect(page.getByRole("button", { name: "Send", exact: true })).toBeInViewport({ ratio: 1 });
    // Including its outline.
    expect(
      await message(page).evaluate((m) => innerHeight - m.closest("form")!.getBoundingClientRect().bottom),
      `at ${height}`,
    ).toBeGreaterThanOrEqual(0);
  }
  await page.setViewportSize({ width: 640, height: 400 });
  await lookAt(page, "chat");
  expect(sockets).toBe(0);
  await page.reload();
  await expect(message(page)).toBeVisible();
  await expect(view(page, "Chat only")).toBeChecked();
  await choose(page, "Desktop only");
  await expect(stage(page)).toBeVisible();

  await page.setViewportSize({ width: 1280, height: 800 });
  await expect(view(page, both)).toBeChecked();
  await expect(message(page)).toBeVisible();
  await expect(stage(page)).toBeVisible();

  // A user who zooms in while writing sees what was written.
  await message(page).fill("half a sentence");
  const zoom = await page.context().newCDPSession(page);
  await zoom.send("Emulation.setDeviceMetricsOverride", {
    width: 640,
    height: 400,
    deviceScaleFactor: 2,
    mobile: false,
  });
  await expect(message(page)).toBeInViewport({ ratio: 1 });
  await expect(message(page)).toHaveValue("half a sentence");
  await expect(stage(page)).toBeHidden();
});

test("on a phone both are shown while each is usable, and its bar keeps every tool", async ({
  browser,
  server,
}, info) => {
  const phone = await browser.newContext({ ...pixel, baseURL: server.url });
  const page = await phone.newPage();
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const chat = page.getByRole("region", { name: "Chat", exact: true });
  const bar = page.getByRole("separator");

  // Turned: side by side.
  await choose(page, both);
  await page.setViewportSize({ width: 844, height: 390 });
  await expect(bar).toHaveAttribute("aria-orientation", "vertical");
  for (const key of ["Home", "End"]) {
    await bar.press(key);
    expect((await size(page)).width, key).toBeGreaterThanOrEqual(480);
    expect((await chat.boundingBox())!.width, key).toBeGreaterThanOrEqual(320);
  }
  await expect(message(page)).toBeInViewport({ ratio: 1 });
  await lookAt(page, "turned");

  // Upright: one above the other.
  await page.setViewportSize({ width: 412, height: 840 });
  await expect(bar).toHaveAttribute("aria-orientation", "horizontal");
  for (const key of ["Home", "End"]) {
    await bar.press(key);
    expect((await size(page)).height, key).toBeGreaterThanOrEqual(240);
    expect((await chat.boundingBox())!.height, key).toBeGreaterThanOrEqual(280);
  }
  await lookAt(page, "upright");

  for (const width of [412, 360, 320]) {
    await page.setViewportSize({ width, height: 640 });
    await choose(page, "Desktop only");
    const inBar = page.getByRole("banner").getByRole("button");
    for (const name of [/^Take control/, "On-screen keyboard", "Desktop tools", /^More actions/])
      await expect(inBar.and(page.getByRole("button", { name })), `${name} at ${width}`).toBeInViewport({ ratio: 1 });
    await expect(page.getByRole("button", { name: "View only" })).toBeHidden();
    await page.getByRole("button", { name: "Desktop tools" }).tap();
    for (const name of ["View only", /^Clipboard/, /^Keys/, /^Screen/, "Full screen"])
      await expect(page.getByRole("button", { name }), `${name} at ${width}`).toBeInViewport({ ratio: 1 });
    await lookAt(page, "tools");
    await page.getByRole("button", { name: /^Clipboard/ }).tap();
    await expect(page.getByRole("dialog", { name: "Clipboard" })).toBeInViewport({ ratio: 1 });
    await lookAt(page, "clipboard");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Desktop tools" }).tap();
    await page.getByRole("button", { name: /^More actions/ }).tap();
    for (const name of ["Stop", "Rename…", "Account and sessions", "API keys", "Usage", "Log out"])
      await expect(page.getByRole("menuitem", { name })).toBeVisible();
    await lookAt(page, "menu");
    await page.keyboard.press("Escape");
  }

  // A menu outlives a turn of the phone, which moves its button.
  await page.getByRole("button", { name: "Desktop tools" }).tap();
  await page.getByRole("button", { name: /^Clipboard/ }).tap();
  const text = page.getByRole("dialog", { name: "Clipboard" }).getByRole("textbox");
  await text.fill("half a text");
  await page.setViewportSize({ width: 840, height: 412 });
  await expect(text).toHaveValue("half a text");
  await page.keyboard.press("Escape");

  // By keyboard: out of the desktop to the tools, wherever they are.
  for (const [width, name] of [
    [840, "View only"],
    [412, "Desktop tools"],
  ] as const) {
    await page.setViewportSize({ width, height: 412 });
    await keyboard(page).focus();
    await page.keyboard.press("Control+Alt+Shift");
    await expect(page.getByRole("button", { name })).toBeFocused();
  }
  await phone.close();
});

test("each page, dialog and menu fits a small window", async ({ page }, info) => {
  const sizes = [
    { width: 360, height: 640 },
    { width: 640, height: 400 },
  ];
  const everywhere = async (name: string, open?: () => Promise<void>) => {
    for (const s of sizes) {
      await page.setViewportSize(s);
      await open?.();
      await lookAt(page, name);
      if (open) await page.keyboard.press("Escape");
    }
  };
  const press = (name: string | RegExp) => page.getByRole("button", { name }).first().click();
  const dialog = page.getByRole("dialog").or(page.getByRole("alertdialog"));
  const opens = (name: string | RegExp) => async () => {
    await press(name);
    await expect(dialog).toBeVisible();
  };
  const chooses = (menu: string | RegExp, item: string) => async () => {
    await press(menu);
    await page.getByRole("menuitem", { name: item }).click();
    await expect(dialog).toBeVisible();
  };

  await page.goto("/app/login");
  await everywhere("login");
  await page.goto("/app/signup");
  await everywhere("signup");
  await signUp(page, info);
  await everywhere("no-desktops");
  const id = await firstDesktop(page);
  await everywhere("terminate", chooses(/^More actions for/, "Terminate…"));
  await everywhere("rename", chooses(/^More actions for/, "Rename…"));
  await everywhere("idle-policy", async () => {
    await chooses(/^More actions for/, "When idle…")();
    await page.getByRole("radio", { name: "Its own times" }).check();
    await page.getByLabel("Stop after this time without use").selectOption("Another time…");
  });
  await page.goto("/app/");
  await expect(page.getByRole("article", { name: "My desktop" }).getByText("Ready")).toBeVisible();
  await everywhere("desktops");
  await everywhere("create", opens("New desktop"));
  await everywhere("account-menu", async () => {
    await press("Account");
    await expect(page.getByRole("menu")).toBeVisible();
  });
  for (const tab of ["history", "diagnostics"]) {
    await page.goto(`/app/desktops/${id}/about?tab=${tab}`);
    await expect(page.getByRole("tabpanel")).toBeVisible();
    await everywhere(tab);
  }
  await page.goto("/app/keys");
  await everywhere("keys");
  await everywhere("set-key", opens("Set key for Anthropic"));
  await page.goto("/app/usage");
  await expect(page.getByRole("heading", { name: "Budgets" })).toBeVisible();
  await everywhere("usage");
  await everywhere("budget", opens("Set a budget of all desktops"));
  await page.goto("/app/account");
  await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
  await everywhere("account");
});
