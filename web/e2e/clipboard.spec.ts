import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { Page } from "@playwright/test";
import { atRest, firstLine, screen, settled, terminal } from "./desktop";
import { expect, firstDesktop, look, signUp, test } from "./fixtures";
import { Server } from "./server";

const limit = 1 << 20;
const tooLong = "The text is longer than 1 MiB, so it was not sent and nothing was pasted.";

const copyHere = (page: Page, text: string) => page.evaluate((t) => navigator.clipboard.writeText(t), text);
const clipboard = (page: Page) => page.getByRole("button", { name: /^Clipboard/ });

test("a text of one mebibyte arrives, in one line and in short ones; one byte more is refused", async ({
  page,
  context,
}, info) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  for (const text of ["x".repeat(limit), "ab\n".repeat(limit / 3) + "!"]) {
    const pasted = await terminal(page, `head -c ${limit}`);
    await copyHere(page, text);
    await page.keyboard.press("Shift+Insert");
    await expect.poll(async () => (await pasted.read())?.length, { timeout: 60_000 }).toBe(limit);
    expect((await pasted.read()) === text).toBe(true);
    await pasted.remove();
    const refused = await terminal(page, "head -c 3");
    await copyHere(page, text + "y");
    await page.keyboard.press("Shift+Insert");
    await expect(page.getByText(tooLong)).toBeVisible();
    await page.keyboard.type("end");
    await expect.poll(refused.read, { timeout: 60_000 }).toBe("end");
    await refused.remove();
    await page.getByRole("button", { name: "Close" }).first().click();
  }
});

test("a long text copied on the desktop is reported, and an older one is not pasted for it", async ({
  page,
  context,
}, info) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  await copyHere(page, "older text");
  // A terminal copies what a program in it sends as OSC 52. The X library hands a text of this size over in pieces.
  const script = join(tmpdir(), `cloudbot-copy-${randomUUID()}`);
  await writeFile(
    script,
    `exec xterm -geometry 20x5-0-40 -xrm 'XTerm*allowWindowOps: true' -xrm 'XTerm*maxStringParse: 9000000' -e sh -c '
printf "\\033]52;c;"; head -c 2000000 /dev/zero | tr "\\0" a | base64 -w 0; printf "\\a"; sleep 600'`,
  );
  await chmod(script, 0o644);
  const pasted = await terminal(page, `sh ${script} & { head -c 20; cat > /dev/null; }`);
  await expect(page.getByText(/^The text copied on the desktop \(2\.0 MB\) is too long to transfer\./)).toBeVisible({
    timeout: 60_000,
  });
  // The new window may have taken the focus.
  await screen(page).click({ position: await firstLine(page) });
  await atRest(page); // until then, keys may reach the other window
  // The terminal pastes what the desktop has: its own newest text, in place of which the page must not send an older one.
  await page.keyboard.press("Shift+Insert");
  await expect.poll(pasted.read, { timeout: 60_000 }).toBe("a".repeat(20));
  await pasted.remove();
  await rm(script);
});

test("text is sent automatically only while the user allows it, and the button shows it", async ({
  page,
  context,
}, info) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const pasted = await terminal(page, "cat");
  // The middle button pastes what the desktop has: the page does not see it.
  const pasteThere = async () => {
    await screen(page).click({ position: await firstLine(page), button: "middle" });
  };
  const leaveAndReturn = async () => {
    await clipboard(page).focus();
    await screen(page).click();
  };
  await copyHere(page, "one;");
  await leaveAndReturn();
  await pasteThere();
  await expect(clipboard(page)).toHaveAccessibleName("Clipboard");

  await clipboard(page).click();
  const dialog = page.getByRole("dialog", { name: "Clipboard" });
  await dialog.getByRole("button", { name: "Send automatically" }).click();
  await expect(clipboard(page)).toHaveAccessibleName(/^Clipboard Auto/);
  await expect(dialog.getByText(/sent to this desktop, and to its agent, each time/)).toBeVisible();
  await page.keyboard.press("Escape");
  await look(page, "clipboard-automatic");
  await copyHere(page, "two;");
  await leaveAndReturn();
  await pasteThere();
  await expect.poll(pasted.read, { timeout: 60_000 }).toBe("two;");

  // The choice outlives a reload, and ends with the permission.
  await page.reload();
  await settled(page);
  await expect(clipboard(page)).toHaveAccessibleName(/^Clipboard Auto/);
  await context.clearPermissions();
  await expect(page.getByText(/no longer lets this page read the clipboard\. Automatic sending is off/)).toBeVisible();
  await expect(clipboard(page)).toHaveAccessibleName("Clipboard");
  await page.reload();
  await settled(page);
  await expect(clipboard(page)).toHaveAccessibleName("Clipboard");
  await pasted.remove();
});

test("a browser that refuses is reported where the user asked", async ({ page, context }, info) => {
  await context.grantPermissions([]); // all others are denied
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  await clipboard(page).click();
  const dialog = page.getByRole("dialog", { name: "Clipboard" });
  await expect(dialog.getByText(/allow this page to read the clipboard in your browser's site settings/)).toBeVisible();
  await expect(dialog.getByRole("button", { name: "Send automatically" })).toHaveCount(0);
  await expect(clipboard(page)).toHaveAccessibleName("Clipboard");
});

/** A folder with all programs of the PATH but Xvnc. */
async function withoutXvnc(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "cloudbot-path-"));
  await chmod(dir, 0o755);
  const seen = new Set(["Xvnc", "Xtigervnc"]);
  for (const from of (process.env.PATH ?? "").split(delimiter))
    for (const name of await readdir(from).catch(() => [])) {
      if (seen.has(name)) continue;
      seen.add(name);
      await symlink(join(from, name), join(dir, name));
    }
  return dir;
}

const has = (name: string) => (process.env.PATH ?? "").split(delimiter).some((dir) => existsSync(join(dir, name)));

test("any text arrives on a desktop with x11vnc, from its first second on", async ({ browser }, info) => {
  test.skip(!has("x11vnc") || !has("Xvfb"), "x11vnc and Xvfb are not installed");
  const path = await withoutXvnc();
  const server = await Server.start({ PATH: path });
  const context = await browser.newContext({ baseURL: server.url });
  try {
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    const page = await context.newPage();
    await signUp(page, info);
    await firstDesktop(page);
    await settled(page);
    for (const text of ["größer → 日本 😀", "x".repeat(limit), "ab\n".repeat(limit / 3) + "!"]) {
      const bytes = new TextEncoder().encode(text).length;
      const pasted = await terminal(page, `head -c ${bytes}`);
      await copyHere(page, text);
      await page.keyboard.press("Shift+Insert");
      await expect.poll(async () => (await pasted.read())?.length, { timeout: 60_000 }).toBe(text.length);
      expect((await pasted.read()) === text).toBe(true);
      await pasted.remove();
    }
    await expect(page.getByText(/The desktop received/)).toHaveCount(0);
    await clipboard(page).click();
    await expect(page.getByText("This desktop's server accepts only Western European letters.")).toHaveCount(0);
  } finally {
    await context.close();
    await server.remove();
    await rm(path, { recursive: true });
  }
});
