// Plans: chosen and paid on the pages of a small Stripe, which are not ours, and what happens when they are not paid.
import type { Page, TestInfo } from "@playwright/test";
import { test as base, expect, firstDesktop, hasFocus, look, openAccount } from "./fixtures";
import { Server } from "./server";
import { cards, Stripe } from "./stripe";

const test = base.extend<object, { stripe: Stripe; server: Server }>({
  stripe: [
    // oxlint-disable-next-line no-empty-pattern -- a fixture takes a pattern, this one nothing of it
    async ({}, use) => {
      const stripe = await Stripe.start();
      await use(stripe);
      await stripe.end();
    },
    { scope: "worker", timeout: 300_000 },
  ],
  server: [
    async ({ stripe }, use) => {
      const server = await Server.start(stripe.settings);
      await stripe.control("webhook", { url: `${server.url}/api/payments/webhook` });
      await use(server);
      await server.remove();
    },
    { scope: "worker", timeout: 90_000 },
  ],
});

const patience = { timeout: 90_000 };

/** Opens an account without a plan. */
async function begin(page: Page, info: TestInfo) {
  const email = await openAccount(page, info);
  await expect(page.getByRole("link", { name: "Choose a plan" })).toBeVisible();
  return email;
}

/** Calls the server as the page's user. */
async function ask<T>(page: Page, method: "GET" | "POST", path: string, data?: unknown) {
  const token = await page.evaluate(
    () => (JSON.parse(localStorage.getItem("cloudbot.session")!) as { access: string }).access,
  );
  const answer = await page.request.fetch(path, {
    method,
    headers: { Authorization: `Bearer ${token}` },
    ...(data === undefined ? {} : { data }),
  });
  return { status: answer.status(), body: (await answer.json()) as T };
}

const accountOf = async (page: Page) => (await ask<{ id: string }>(page, "GET", "/api/auth/me")).body.id;

/** On Stripe's page. */
async function pay(page: Page, card: string) {
  const email = page.getByLabel("Email");
  if (await email.isVisible()) await email.fill("buyer@example.com");
  await page.getByLabel("Card number").fill(card);
  await page.getByRole("button", { name: "Subscribe" }).click();
}

/** Buys a plan. */
async function buy(page: Page, name: string) {
  await page.goto("/app/plan");
  await page.getByRole("button", { name: `Choose ${name}` }).click();
  await page.getByRole("heading", { name: "Subscribe" }).waitFor();
  await pay(page, cards.good);
  await expect(page.getByText(`You have the plan ${name}.`)).toBeVisible(patience);
}

/** Has the account's next payment fail. */
async function failRenewal(page: Page, stripe: Stripe) {
  const account = await accountOf(page);
  await stripe.control("card", { account, card: "fails" });
  await stripe.control("advance", { account, by: "750h" }); // past the month, and the hour that its invoice is a draft
}

const current = (page: Page) => page.getByRole("region", { name: "Your plan" });
const banner = (page: Page, title: RegExp) => page.getByRole("status").filter({ hasText: title });

test("sign up, choose a plan, pay on Stripe's page, and create a desktop once Stripe has said so", async ({
  page,
  stripe,
}, info) => {
  await begin(page, info);
  await look(page, "plan-needed");
  const refused = await ask<{ code: string }>(page, "POST", "/api/instances", {});
  expect([refused.status, refused.body.code]).toEqual([402, "plan_needed"]); // whatever a page shows

  // By keyboard, to Stripe's page and back without paying.
  await page.getByRole("link", { name: "Choose a plan" }).press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "Plan" })).toBeVisible();
  await expect(current(page).getByText("No plan")).toBeVisible();
  await expect(page.getByRole("article", { name: "Pro" }).getByText("$49.00")).toBeVisible();
  await look(page, "plan-choice");
  await page.getByRole("button", { name: "Choose Pro" }).press("Enter");
  await expect(page.getByRole("heading", { name: "Subscribe" })).toBeVisible();
  const checkout = page.url();
  await page.getByRole("link", { name: "Back" }).click();
  await expect(page.getByText("You left the payment page.")).toBeVisible();
  await expect(page).toHaveURL(/\/app\/plan$/);
  await look(page, "plan-left");

  // The same page again: an account has one at a time. A declined card buys nothing.
  await page.getByRole("button", { name: "Continue to payment" }).click();
  await expect(page).toHaveURL(checkout);
  await pay(page, cards.declined);
  await expect(page.getByRole("alert")).toContainText("declined");

  // Stripe's message is late, and the page cannot have the server look: it shows the plan once the message is there.
  await stripe.control("hold", { on: true });
  await page.route("**/api/payments/sync", (route) => route.abort());
  await pay(page, cards.good);
  await expect(page.getByText("What you did at Stripe may not be shown yet.")).toBeVisible(patience);
  await expect(page).toHaveURL(/\/app\/plan$/);
  await expect(current(page).getByText("No plan")).toBeVisible();
  await stripe.control("hold", { on: false });
  await expect(current(page).getByText("Active")).toBeVisible(patience);
  await expect(current(page).getByText("$49.00 a month")).toBeVisible();
  await page.unroute("**/api/payments/sync");
  await page.getByRole("button", { name: "Check again" }).click();
  await expect(page.getByText("You have the plan Pro.")).toBeVisible();
  await expect(page.getByRole("region", { name: "Invoices" }).getByText("Paid", { exact: true })).toBeVisible();
  await hasFocus(page);
  await look(page, "plan-paid");
  expect(stripe.url).toBe(new URL(checkout).origin);

  await page.getByRole("link", { name: "Create a desktop" }).click();
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await expect(page.getByRole("region", { name: /^Desktop of / })).toBeVisible(patience);
});

test("no message of Stripe arrives: the page that a user returns to has the server look", async ({
  page,
  stripe,
}, info) => {
  await begin(page, info);
  await stripe.control("lose", { count: 1_000 });
  try {
    await buy(page, "Starter");
    await expect(current(page).getByText("Active")).toBeVisible();
  } finally {
    await stripe.control("lose", { count: 0 });
  }
});

test("a payment fails at the renewal: all pages say until when, and the portal mends it", async ({
  page,
  context,
  stripe,
}, info) => {
  test.setTimeout(600_000);
  await begin(page, info);
  await buy(page, "Starter");
  await page.goto("/app/");
  await firstDesktop(page);
  const second = await context.newPage();
  await second.goto("/app/");
  await expect(second.getByRole("article", { name: "My desktop" })).toBeVisible();
  await expect(banner(second, /payment/)).toHaveCount(0);

  // Both pages learn of it without being touched.
  await failRenewal(page, stripe);
  const title = /A payment is due\. Your desktops stop at \d{1,2}:\d\d\s[AP]M on \w+ \d+, \d{4}\./;
  await page.bringToFront();
  await expect(banner(page, title)).toBeVisible(patience);
  await expect(page.getByRole("region", { name: /^Desktop of / })).toBeVisible(); // it keeps running
  await look(page, "payment-due-desktop");
  await second.bringToFront();
  await expect(banner(second, title)).toBeVisible(patience);
  await expect(banner(second, title)).toContainText("A payment for your plan failed.");
  await second.getByRole("button", { name: "New desktop" }).click();
  const dialog = second.getByRole("dialog", { name: "New desktop" });
  await expect(dialog.getByText("Until then you cannot create desktops.")).toBeVisible();
  await look(second, "payment-due-create");
  await dialog.getByRole("link", { name: "See what is due" }).click();

  await expect(current(second).getByText("Payment due")).toBeVisible();
  await expect(current(second).getByText(/^\$19\.00 is due\. Stripe could not charge your card/)).toBeVisible();
  await expect(current(second).getByRole("link", { name: "Pay the invoice" })).toHaveAttribute("href", /\/i\/in_/);
  const invoices = second.getByRole("region", { name: "Invoices" });
  await expect(invoices.getByText("Not paid yet")).toBeVisible();
  await expect(invoices.getByText("Paid", { exact: true })).toBeVisible(); // the first month's
  await look(second, "plan-due");

  // A good card first, then the open invoice; both on Stripe's pages.
  await second.getByRole("button", { name: "Payment portal" }).click();
  await expect(second.getByRole("heading", { name: "Manage your plan" })).toBeVisible();
  const portal = second.url();
  await second.getByLabel("Card number").fill(cards.good);
  await second.getByRole("button", { name: "Save card" }).click();
  await second.getByRole("listitem").filter({ hasText: "open" }).getByRole("link").click();
  await second.getByRole("button", { name: "Pay invoice" }).click();
  await expect(second.getByText(/paid/)).toBeVisible();
  await second.goto(portal);
  await second.getByRole("link", { name: "Return" }).click();
  await expect(second).toHaveURL(/\/app\/plan$/);
  await expect(current(second).getByText("Active")).toBeVisible(patience);
  await expect(invoices.getByText("Paid", { exact: true })).toHaveCount(2);
  await page.bringToFront();
  await expect(banner(page, /payment/)).toHaveCount(0, patience);
  await second.close();
});

test("a plan is canceled for the period's end, kept again, changed in the portal, and ends", async ({
  page,
  stripe,
}, info) => {
  await begin(page, info);
  await buy(page, "Starter");
  await page.getByRole("button", { name: "Cancel plan…" }).press("Enter");
  const dialog = page.getByRole("alertdialog", { name: "Cancel the plan Starter?" });
  await expect(dialog.getByText("They are not deleted")).toBeVisible();
  await expect(dialog.getByRole("button", { name: "Keep it" })).toBeFocused();
  await look(page, "plan-cancel");
  await page.keyboard.press("Enter");
  await expect(dialog).toHaveCount(0);
  await expect(current(page).getByText("Active")).toBeVisible();

  await page.getByRole("button", { name: "Cancel plan…" }).click();
  await dialog.getByRole("button", { name: "Cancel the plan" }).click();
  await expect(current(page).getByText("Canceled")).toBeVisible(patience);
  await expect(
    current(page).getByText(/^Your plan ends on \w+ \d+, \d{4}\. Until then, nothing changes\./),
  ).toBeVisible();
  await hasFocus(page);
  await look(page, "plan-canceled");
  await page.getByRole("button", { name: "Keep the plan" }).click();
  await expect(current(page).getByText("Active")).toBeVisible(patience);
  await expect(current(page).getByText(/It renews then by itself\.$/)).toBeVisible();

  await page.getByRole("button", { name: "Change to Enterprise" }).click();
  await page.getByRole("button", { name: "Change to Enterprise" }).click(); // Stripe's
  await page.getByRole("link", { name: "Return" }).click();
  await expect(current(page).getByText("Enterprise")).toBeVisible(patience);
  await expect(current(page).getByText("0 of 10 used")).toBeVisible();
  await expect(page.getByRole("article", { name: "Enterprise" }).getByText("Your plan")).toBeVisible();

  const account = await accountOf(page);
  await stripe.control("cancel", { account, on: true });
  await expect(current(page).getByText("Canceled")).toBeVisible(patience);
  await stripe.control("advance", { account, by: "750h" });
  await expect(current(page).getByText("Ended", { exact: true })).toBeVisible(patience);
  await expect(current(page).getByText("Your plan has ended.")).toBeVisible();
  await expect(page.getByRole("button", { name: "Choose Starter" })).toBeEnabled(); // another one can be bought
  await look(page, "plan-ended");
});

test("an operator gives a plan; withdrawn, its desktop stops later and cannot be started", async ({
  page,
  server,
}, info) => {
  const email = await begin(page, info);
  await server.tool("accounts", "plan", email, "pro", "--reason", "a test");
  await page.getByRole("button", { name: "Create my desktop" }).waitFor(patience); // without a reload
  await page.getByRole("link", { name: "Plan" }).click();
  await expect(current(page).getByText("Given by the operator")).toBeVisible();
  await expect(page.getByText("Nothing is charged for it.")).toBeVisible();
  await look(page, "plan-granted");
  await page.getByRole("link", { name: "Desktops", exact: true }).click();
  const id = await firstDesktop(page);

  await server.tool("accounts", "plan", email, "--withdraw");
  await expect(banner(page, /Your desktops stop at /)).toBeVisible(patience);
  await expect(banner(page, /Your plan has ended\. .* Nothing was deleted\./)).toBeVisible();
  await ask(page, "POST", `/api/instances/${id}/stop`);
  await page.getByRole("button", { name: "Start My desktop" }).click(patience);
  const refused = page.getByRole("alert").filter({ hasText: "Not started" });
  await expect(refused).toContainText("Your plan has ended.");
  await refused.getByRole("button", { name: "See your plan" }).click();
  await expect(page).toHaveURL(/\/app\/plan$/);
  await hasFocus(page);
});

test("a plan that is not paid in time: its desktop stops and says why, and starts again once it is paid", async ({
  page,
  stripe,
  server,
}, info) => {
  test.setTimeout(900_000);
  await server.restart({ BILLING_GRACE: "45s" });
  await begin(page, info);
  await buy(page, "Starter");
  await page.goto("/app/");
  await firstDesktop(page);
  const url = page.url();
  await failRenewal(page, stripe);
  await expect(banner(page, /A payment is due/)).toBeVisible(patience);
  await expect(page.getByText("This desktop is stopped")).toBeVisible({ timeout: 300_000 });
  await expect(
    page.getByText(/^Stopped by itself\. Your plan was not paid in time\. .*Nothing was deleted\.$/),
  ).toBeVisible();
  await expect(banner(page, /Your desktops are stopped\./)).toBeVisible();
  await look(page, "plan-unpaid-desktop");
  await page.getByRole("button", { name: "Start My desktop" }).click();
  const refused = page.getByRole("alert").filter({ hasText: "Not started" });
  await expect(refused).toContainText("Your plan was not paid in time.");
  await refused.getByRole("button", { name: "See your plan" }).click();

  // A narrow bar has the way to this page in the account's menu.
  await expect(current(page).getByText("Not paid", { exact: true })).toBeVisible();
  await page.goto("/app/");
  await page.setViewportSize({ width: 320, height: 640 });
  await page.getByRole("button", { name: "Account" }).click();
  await page.getByRole("menuitem", { name: "Plan and payments" }).click();
  await expect(current(page).getByText("Not paid", { exact: true })).toBeVisible();
  await look(page, "plan-unpaid");
  await page.setViewportSize({ width: 1280, height: 800 });

  // The invoice opens in a tab of its own, and this page changes by itself.
  await stripe.control("card", { account: await accountOf(page), card: "good" });
  const opened = page.waitForEvent("popup");
  await current(page).getByRole("link", { name: "Pay the invoice" }).click();
  const invoice = await opened;
  await invoice.getByRole("button", { name: "Pay invoice" }).click();
  await expect(invoice.getByText(/paid/)).toBeVisible();
  await invoice.close();
  await expect(current(page).getByText("Active")).toBeVisible(patience);
  await page.goto(url);
  await page.getByRole("button", { name: "Start My desktop" }).click();
  await expect(page.getByRole("region", { name: /^Desktop of / })).toBeVisible(patience);
});
