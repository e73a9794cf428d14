// What a desktop costs, and when it stops by itself: with a price list that prices local desktops, and limits of seconds.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { test as base, expect, look, signUp } from "./fixtures";
import { Server } from "./server";

const hourly = 36_000_000; // a cent a second

const test = base.extend<object, { server: Server }>({
  server: [
    // oxlint-disable-next-line no-empty-pattern -- a fixture takes a pattern, this one nothing of it
    async ({}, use) => {
      const dir = await mkdtemp(join(tmpdir(), "cloudbot-prices-"));
      const file = join(dir, "prices.json");
      const local = { hourly_micros: { local: hourly }, disk_gib_month_micros: 0, address_hourly_micros: 0 };
      await writeFile(
        file,
        JSON.stringify({
          source: "The price list of a test",
          date: "2026-11-01",
          disk_gib: 40,
          versions: [{ from: "2024-01-01", regions: { local } }],
        }),
      );
      const server = await Server.start({ IDLE_SHORTEST: "2s", PRICES_FILE: file });
      await use(server);
      await server.remove();
      await rm(dir, { recursive: true, force: true });
    },
    { scope: "worker", timeout: 90_000 },
  ],
});

const desktop = (page: Page) => page.getByRole("region", { name: /^Desktop of / });
const warning = (page: Page) => page.getByRole("status").filter({ hasText: "This desktop stops by itself" });
const line = (page: Page) => page.getByRole("complementary", { name: "Message of CloudBot" });
const mark = (page: Page) => page.getByRole("banner").getByRole("link", { name: "A desktop stops soon – My desktop" });
const keep = { name: "Keep running 1 hour" };

async function choose(page: Page, item: string) {
  await page.getByRole("button", { name: "More actions for My desktop" }).click();
  await page.getByRole("menuitem", { name: item }).click();
}

/** Chooses a time in seconds that is not offered. */
async function seconds(page: Page, label: string, number: string) {
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel(label, { exact: true }).selectOption("Another time…");
  await dialog.getByRole("textbox", { name: `${label}, number` }).fill(number);
  await dialog.getByLabel(`${label}, unit`).selectOption("seconds");
}

/** Creates a desktop through the form, which says the price. */
async function create(page: Page) {
  const price = "Costs about $36.00 an hour while running.";
  await expect(page.getByText(price)).toBeVisible();
  await page.getByRole("button", { name: "Choose a name and a size first" }).click();
  await expect(page.getByRole("dialog").getByText(price)).toBeVisible();
  await look(page, "create-priced");
  await page.getByRole("textbox", { name: "Name" }).fill("My desktop");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await expect(desktop(page)).toBeVisible();
}

/** Reads the file's amounts exactly, in micro-dollars. */
function sumOf(csv: string): bigint {
  const [head, ...rows] = csv.trim().split(/\r?\n/);
  const column = head!.split(",").indexOf("total_usd");
  expect(column).toBeGreaterThan(0);
  return rows.reduce((sum, row) => {
    const amount = row.split(",").at(column - head!.split(",").length)!; // from the end: a name may contain commas
    expect(amount).toMatch(/^\d+\.\d{6}$/);
    return sum + BigInt(amount.replace(".", ""));
  }, 0n);
}

test("a desktop warns, is extended, stops by itself, says why, and is woken by its user; its costs are in chart and file", async ({
  page,
  context,
}, info) => {
  test.setTimeout(900_000); // it waits for two warnings and a stop, and machines report a silent desktop once a minute
  await signUp(page, info);
  await create(page);
  const url = page.url();

  // The policy: seconds, because this server allows it.
  await choose(page, "When idle…");
  const dialog = page.getByRole("dialog", { name: "When My desktop stops by itself" });
  await expect(dialog.getByText("Does not stop by itself.")).toBeVisible();
  await expect(dialog.getByRole("radio", { name: /^As your account's desktops/ })).toBeChecked();
  await dialog.getByRole("radio", { name: "Its own times" }).check();
  await seconds(page, "Stop after this time without use", "soon");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog.getByText("Enter a whole number of at least 1.")).toBeVisible();
  await seconds(page, "Stop after this time without use", "1");
  await seconds(page, "Warn this long before", "45");
  await dialog.getByLabel("Stop after this time without you").selectOption("Never");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog.getByText("A desktop may be idle for")).toBeVisible(); // the server's refusal, beside its field
  await look(page, "idle-policy");
  await seconds(page, "Stop after this time without use", "60");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog).toHaveCount(0);

  await page.goto("/app/");
  const card = page.getByRole("article", { name: "My desktop" });
  await expect(card.getByText(/^Running \d+ (s|min).*, \$\d+\.\d\d · \$\d+\.\d\d this month$/)).toBeVisible();
  await look(page, "desktops-priced");
  await page.goto(url);

  // Without a change of the page, the desktop is warned: over the page, in the chat, and on other pages.
  await expect(warning(page)).toBeVisible({ timeout: 240_000 });
  await expect(warning(page)).toContainText("No input since");
  await expect(warning(page)).toContainText(/in (\d+ min )?\d+ s\./);
  await expect(line(page)).toContainText("No input since");
  await expect(line(page).getByRole("button", keep)).toBeVisible();
  await expect(mark(page)).toBeVisible();
  await expect(page).toHaveTitle("A desktop stops soon · My desktop · CloudBot");
  const second = await context.newPage();
  await second.goto("/app/keys");
  await expect(mark(second)).toBeVisible();

  // One click keeps it running, and withdraws the warning everywhere. The test cannot wait for an hour.
  let asked: unknown;
  await page.route("**/extend", async (route) => {
    asked = route.request().postDataJSON();
    await route.continue({ postData: JSON.stringify({ minutes: 1 }) });
  });
  await page.bringToFront();
  await warning(page).getByRole("button", keep).click();
  await expect(page.getByText(/^My desktop keeps running until /)).toBeVisible();
  expect(asked).toEqual({ minutes: 60 });
  await expect(warning(page)).toHaveCount(0);
  await expect(line(page)).toHaveCount(0);
  await expect(mark(second)).toHaveCount(0);
  await choose(page, "When idle…");
  await expect(dialog.getByText(/Kept running until .*\. Would stop at .* if not used\./)).toBeVisible();
  await page.keyboard.press("Escape");

  // Warned again, it stops, and says why.
  await expect(warning(page)).toBeVisible({ timeout: 240_000 });
  await look(page, "warned");
  await expect(page.getByText("This desktop is stopped")).toBeVisible({ timeout: 240_000 });
  await expect(page.getByText(/^Stopped by itself\. No input since .* and the agent idle since /)).toBeVisible();
  await look(page, "stopped-by-itself");
  await second.goto("/app/");
  await expect(second.getByText(/^Stopped by itself\. No input since /)).toBeVisible();
  await second.getByRole("link", { name: "Usage" }).click();

  // The month: the chart by keyboard, and the same figures in the table and in the file.
  await expect(second.getByRole("heading", { level: 1, name: "Usage" })).toBeVisible();
  const chart = second.getByRole("slider", { name: "Costs by day" });
  await chart.focus();
  await second.keyboard.press("End");
  await expect(chart).toHaveAttribute("aria-valuetext", /^.+: \$\d+\.\d\d\. My desktop \$\d+\.\d\d$/);
  const last = Number(await chart.getAttribute("aria-valuemax"));
  await expect(chart).toHaveAttribute("aria-valuenow", String(last));
  await second.keyboard.press("ArrowLeft");
  await expect(chart).toHaveAttribute("aria-valuenow", String(Math.max(1, last - 1)));
  await second.keyboard.press("Home");
  await expect(chart).toHaveAttribute("aria-valuenow", "1");
  if (last > 1) await expect(chart).toHaveAttribute("aria-valuetext", /: nothing$/);
  await second.keyboard.press("End");
  await second.getByText("Show as a table").click();
  const row = second.getByRole("region", { name: "Costs by day, table" }).getByRole("row", { name: /My desktop/ });
  const said = /My desktop (\$\d+\.\d\d)/.exec((await chart.getAttribute("aria-valuetext"))!)![1]!;
  await expect(row.last().getByRole("cell").last()).toHaveText(said);
  await expect(second.getByText("The price list of a test")).toBeVisible();
  await look(second, "usage");
  const download = second.waitForEvent("download");
  await second.getByRole("button", { name: "Download CSV" }).click();
  const file = await download;
  expect(file.suggestedFilename()).toMatch(/^cloudbot-usage-\d{4}-\d\d\.csv$/);
  const total = await second.locator("data").getAttribute("value");
  expect(sumOf(await readFile(await file.path(), "utf8"))).toBe(BigInt(total!));
  expect(BigInt(total!)).toBeGreaterThan(0n);
  await second.getByRole("button", { name: "Earlier month" }).click();
  await expect(second.getByText(/^No usage in /)).toBeVisible();
  await expect(second).toHaveURL(/\?month=\d{4}-\d\d/);
  await look(second, "usage-empty");
  await second.close();

  // Woken on access: one button, then the boot, then the desktop by itself.
  await page.bringToFront();
  await page.getByRole("button", { name: "Start My desktop" }).click();
  await expect(desktop(page)).toBeVisible({ timeout: 60_000 });
  await expect(page.getByText(/^(Connected|\d+ × \d+$)/)).toBeVisible({ timeout: 60_000 });
});

test("a reached budget stops a desktop with its reason, and keeps it stopped until it is raised", async ({
  page,
}, info) => {
  await signUp(page, info);
  await create(page);
  const url = page.url();
  await page.goto("/app/usage");
  const budgets = page.getByRole("region", { name: "Budgets" });
  await expect(budgets.getByText("No limit.")).toHaveCount(2);
  await page.getByRole("button", { name: "Set a budget of My desktop" }).click();
  const dialog = page.getByRole("dialog", { name: "Budget of My desktop" });
  await dialog.getByLabel("Dollars a month").fill("a lot");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog.getByText("Enter an amount in dollars, such as 12.50.")).toBeVisible();
  await look(page, "budget");
  await dialog.getByLabel("Dollars a month").fill("0.01");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(dialog).toHaveCount(0);
  await expect(budgets.getByText(/^\$\d+\.\d\d of \$0\.01 used this month, \d{3,} %$/)).toBeVisible();
  await expect(budgets.getByText("The limit is reached: the desktop is stopped, never deleted.")).toBeVisible();
  await look(page, "budget-reached");

  await page.goto(url);
  await expect(page.getByText("This desktop is stopped")).toBeVisible({ timeout: 120_000 });
  await expect(page.getByText(/^Stopped by itself\. .*budget/i)).toBeVisible();
  const note = page.getByRole("status").filter({ hasText: "This desktop's budget, $0.01 a month, is used up." });
  await expect(note).toBeVisible();
  await look(page, "stopped-by-budget");
  await page.getByRole("button", { name: "Start My desktop" }).click();
  await expect(page.getByRole("alert").filter({ hasText: "Not started" })).toBeVisible();
  await page.goto("/app/");
  await expect(page.getByRole("article", { name: "My desktop" }).getByText("is used up.")).toBeVisible();
  await page.getByRole("link", { name: "Change the budget" }).click();
  await page.getByRole("button", { name: "Change the budget of My desktop" }).click();
  await expect(dialog.getByLabel("Dollars a month")).toHaveValue("0.01");
  await dialog.getByLabel("Dollars a month").fill("$1,000");
  await dialog.getByRole("button", { name: "Save" }).click();
  await expect(budgets.getByText(/ of \$1,000\.00 used this month, \d %$/)).toBeVisible();
  await page.goto(url);
  await expect(note).toHaveCount(0);
  await page.getByRole("button", { name: "Start My desktop" }).click();
  await expect(desktop(page)).toBeVisible({ timeout: 60_000 });
});
