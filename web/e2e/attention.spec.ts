import type { BrowserContext, Page } from "@playwright/test";
import { expect, firstDesktop, logIn, look, signUp, test, toKeys } from "./fixtures";

async function say(page: Page, text: string) {
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill(text);
  await message.press("Enter");
}

/** Lets the test hide the pages of a context, which Playwright keeps visible, and records their notifications. */
async function watch(context: BrowserContext, permission: "default" | "granted" | "denied") {
  await context.addInitScript((start) => {
    let hidden = false;
    Object.defineProperty(document, "visibilityState", { get: () => (hidden ? "hidden" : "visible") });
    class Recorded extends EventTarget {
      static permission: string = start;
      static requestPermission = async () => (Recorded.permission = "granted");
      closed = false;
      constructor(
        readonly title: string,
        readonly options: NotificationOptions,
      ) {
        super();
        all.push(this);
      }
      close() {
        this.closed = true;
      }
    }
    const all: Recorded[] = [];
    Object.assign(window, {
      Notification: Recorded,
      test: {
        hide: (now: boolean) => {
          hidden = now;
          document.dispatchEvent(new Event("visibilitychange"));
        },
        all,
      },
    });
  }, permission);
}

type Test = {
  hide: (now: boolean) => void;
  all: (EventTarget & { title: string; options: NotificationOptions; closed: boolean })[];
};
const inTest = <T>(page: Page, f: (t: Test) => T) => page.evaluate(`(${f.toString()})(window.test)`) as Promise<T>;

const link = (page: Page) =>
  page.getByRole("banner").getByRole("link", { name: "Your answer is needed on My desktop" });

test("every page shows that an agent waits, until when, and leads to its chat", async ({ page, context }, info) => {
  await watch(context, "default");
  await signUp(page, info);
  const id = await firstDesktop(page);
  await expect(page).toHaveTitle("My desktop · CloudBot");
  await say(page, "/approve");
  await expect(page.getByRole("button", { name: "Allow once" })).toBeVisible({ timeout: 60_000 });
  await expect(page.getByText(/^\d+ min left$/)).toBeVisible();
  await expect(link(page)).toBeVisible();

  const second = await context.newPage();
  await second.goto("/app/");
  const card = second.getByRole("article", { name: "My desktop" });
  await expect(card.getByRole("link", { name: /^Waiting for your answer · \d+ min left$/ })).toBeVisible();
  await expect(second).toHaveTitle("Your answer is needed · Desktops · CloudBot");
  await expect(
    second.getByRole("status").filter({ hasText: "The agent on My desktop needs your answer." }),
  ).toHaveCount(1);
  // Notifications are offered while the user sees that an agent waits, and only until the user has decided.
  await expect(second.getByRole("button", { name: "Notify me when the agent needs me" })).toBeVisible();
  await look(second, "waits-list");
  await second.getByRole("button", { name: "Not now" }).click();
  await expect(second.getByRole("button", { name: "Not now" })).toHaveCount(0);
  await expect(page.getByRole("button", { name: "Not now" })).toHaveCount(0);
  await second.getByRole("link", { name: "API keys" }).click();
  await expect(link(second)).toBeVisible();
  await expect(second).toHaveTitle("Your answer is needed · API keys · CloudBot");
  await look(second, "waits-keys");
  await second.reload();
  await link(second).click();
  await expect(second).toHaveURL(new RegExp(`/app/desktops/${id}\\?view=both`));
  await expect(second.getByRole("button", { name: "Not now" })).toHaveCount(0);
  await second.getByRole("button", { name: "Allow once" }).click();
  for (const p of [page, second]) {
    await expect(link(p)).toHaveCount(0);
    await expect(p).toHaveTitle("My desktop · CloudBot");
  }
  await second.goto("/app/");
  await expect(card.getByText("Ready")).toBeVisible();
  await expect(card.getByText("Waiting for your answer")).toHaveCount(0);

  // The account's page has the setting.
  await second.goto("/app/account");
  await second.getByRole("button", { name: "Notify me when the agent needs me" }).click();
  await expect(second.getByRole("switch", { name: "Notify me when the agent needs me" })).toBeChecked();
  await look(second, "account-notifications");
});

test("a hidden page notifies of an agent that waits on another device's request", async ({
  page,
  context,
  browser,
}, info) => {
  await watch(context, "granted");
  const email = await signUp(page, info);
  const id = await firstDesktop(page);
  await toKeys(page);
  await expect(page.getByRole("heading", { level: 1, name: "API keys" })).toBeVisible();

  const device = await browser.newContext({ baseURL: new URL(page.url()).origin });
  const other = await device.newPage();
  await logIn(other, email);
  await other.goto(`/app/desktops/${id}`);
  await expect(other.getByRole("textbox", { name: /message/i })).toBeVisible();

  await inTest(page, (t) => t.hide(true));
  await say(other, "/approve");
  const notifications = () =>
    inTest(page, (t) => t.all.map(({ title, options, closed }) => ({ title, tag: options.tag, closed })));
  const first = { title: "The agent on My desktop needs your answer", tag: `cloudbot.${id}`, closed: false };
  await expect.poll(notifications).toEqual([first]);
  await expect(page).toHaveTitle("Your answer is needed · API keys · CloudBot");
  await other.getByRole("button", { name: "Deny" }).click();
  await expect.poll(notifications).toEqual([{ ...first, closed: true }]);
  await expect(page).toHaveTitle("API keys · CloudBot");

  await expect(other.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });
  await say(other, "/ask");
  await expect.poll(notifications).toEqual([{ ...first, closed: true }, first]);
  await inTest(page, (t) => {
    t.hide(false);
    t.all[1]!.dispatchEvent(new Event("click"));
  });
  await expect(page.getByRole("button", { name: "Do not answer" })).toBeVisible();
  await page.getByRole("button", { name: "Do not answer" }).click();
  await expect(link(page)).toHaveCount(0);
  await device.close();
});

test("a browser that blocks notifications is not asked; several desktops that wait are in a menu", async ({
  page,
  context,
}, info) => {
  await watch(context, "denied");
  await signUp(page, info);
  await firstDesktop(page);
  await say(page, "/ask");
  await expect(link(page)).toBeVisible();
  await expect(page.getByRole("button", { name: "Notify me when the agent needs me" })).toHaveCount(0);
  await page.goto("/app/account");
  await expect(page.getByText("This browser blocks notifications of this page.")).toBeVisible();
  await look(page, "notifications-blocked");

  // With several desktops, the mark is a menu.
  await page.goto("/app/?create=true");
  await page.getByRole("textbox", { name: "Name" }).fill("Second");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await expect(page.getByRole("region", { name: /^Desktop of / })).toBeVisible({ timeout: 30_000 });
  const id = page.url().match(/desktops\/([0-9A-Z]{26})/)![1]!;
  await say(page, "/ask");
  await toKeys(page);
  await page.getByRole("button", { name: "Your answers are needed" }).click();
  await expect(page.getByRole("menuitem", { name: /^My desktop/ })).toBeVisible();
  await look(page, "waits-several");
  await page.getByRole("menuitem", { name: /^Second/ }).click();
  await expect(page).toHaveURL(new RegExp(`/app/desktops/${id}\\?view=both`));
});
