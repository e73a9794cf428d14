import { atRest, changed, screen, settled } from "./desktop";
import { expect, firstDesktop, look, signUp, test } from "./fixtures";
import { Line } from "./line";

test("size, full screen, keys and the clipboard work from the toolbar", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const size = () =>
    screen(page).evaluate((c) => [(c as HTMLCanvasElement).width, (c as HTMLCanvasElement).height].join("×"));
  const choose = async (name: RegExp) => {
    await page.getByRole("button", { name: /^Screen: / }).click();
    await page.getByRole("menuitemradio", { name }).click();
  };

  // Match, the default, resizes the desktop to the panel. Fit shows the whole desktop.
  await expect(page.getByRole("button", { name: "Screen: Match" })).toBeVisible();
  await expect.poll(size).not.toBe("1280×800");
  await page.getByRole("button", { name: /^Screen: / }).click();
  await look(page, "screen-menu");
  await page.getByRole("menuitem", { name: /^Reset size/ }).click();
  await expect.poll(size).toBe("1280×800");
  await choose(/^Match/);
  await expect.poll(size).not.toBe("1280×800");
  await choose(/^Fit/);
  await expect(page.getByRole("button", { name: "Screen: Fit" })).toBeVisible();

  await page.getByRole("button", { name: "Full screen", exact: true }).click();
  await expect.poll(() => page.evaluate(() => document.fullscreenElement !== null)).toBe(true);
  await page.getByRole("button", { name: "Leave full screen" }).focus();
  await page.keyboard.press("Enter");
  await expect.poll(() => page.evaluate(() => document.fullscreenElement !== null)).toBe(false);

  // A key that the browser reserves.
  const before = await atRest(page);
  await screen(page).click();
  await page.keyboard.type("echo one two");
  await changed(page, before);
  await page.getByRole("button", { name: "Keys" }).click();
  await expect(page.getByRole("menuitem", { name: "Ctrl + Alt + Del" })).toBeVisible();
  await look(page, "keys-menu");
  await page.keyboard.press("Escape");

  // If the browser allows no access, the user transfers text by hand.
  await page.getByRole("button", { name: /^Clipboard/ }).click();
  await look(page, "clipboard");
  await page.getByRole("dialog", { name: "Clipboard" }).getByRole("textbox").fill("by hand: žluťoučký");
  await page.getByRole("button", { name: "Send to the desktop" }).click();
  await expect(page.getByText("Sent. Paste it on the desktop.")).toBeVisible();
  await page.keyboard.press("Escape");
  await screen(page).click();
  await page.keyboard.press("Control+u");
  const empty = await atRest(page);
  await page.keyboard.press("Shift+Insert");
  await changed(page, empty);
});

test("a dead line is noticed and replaced", async ({ browser, server }, info) => {
  test.slow();
  const line = await Line.to(server.url);
  const context = await browser.newContext({ baseURL: line.url });
  try {
    const page = await context.newPage();
    await signUp(page, info);
    await firstDesktop(page);
    await settled(page);
    line.die();
    await expect(page.getByText("Reconnecting…")).toBeVisible({ timeout: 30_000 });
    // Some attempts use what is left of the dead line.
    await expect(page.getByText(/^Connected/)).toBeVisible({ timeout: 60_000 });
    const before = await atRest(page);
    await screen(page).click();
    await page.keyboard.type("still here");
    await changed(page, before);
  } finally {
    await context.close();
    line.close();
  }
});

test("a boot shows an estimate based on earlier boots", async ({ page }, info) => {
  await signUp(page, info);
  const id = await firstDesktop(page);
  // The same desktop as it was in the middle of its boot.
  await page.route(`**/api/instances/${id}`, async (route) => {
    const answer = await route.fetch();
    const body = (await answer.json()) as object;
    await route.fulfill({
      response: answer,
      json: {
        ...body,
        status: "launching",
        phase: "booting",
        progress: 30,
        ready: false,
        phase_since: new Date().toISOString(),
      },
    });
  });
  let samples = 19;
  await page.route("**/api/boot-times*", async (route) => {
    const answer = await route.fetch();
    const body = (await answer.json()) as { launch: { samples: number; total: object | null } };
    expect(body.launch.samples).toBeGreaterThan(0);
    body.launch.samples = samples; // how many the other tests of this server have started is not known
    body.launch.total ??= { p50_ms: 2_000, p95_ms: 4_000 };
    await route.fulfill({ response: answer, json: body });
  });
  await page.reload();
  await expect(
    page.getByText(/^Half of the 19 desktops that started here before were ready within \d+ s/),
  ).toBeVisible();
  samples = 20;
  await page.reload();
  await expect(page.getByText(/^19 of 20 desktops here are ready within \d+ s/)).toBeVisible();
  const bar = page.getByRole("progressbar");
  await expect.poll(async () => Number(await bar.getAttribute("aria-valuenow"))).toBeGreaterThan(0);
  await page.getByText("Log", { exact: true }).click();
  const log = page.getByRole("region", { name: "Startup log" });
  await expect(log).toContainText(/level=INFO/, { timeout: 60_000 });
  await look(page, "boot");
});
