// Pictures and files that are sent to the agent.
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { accessible, expect, firstDesktop, look, signUp, test } from "./fixtures";

const field = (page: Page) => page.getByRole("textbox", { name: "Message to the agent" });
const log = (page: Page) => page.getByRole("log", { name: "Messages" });
const tray = (page: Page) => page.getByRole("list", { name: "Attached files" });
const sent = (page: Page) => log(page).getByRole("list", { name: "Files of this message" });
const digest = (b: Uint8Array) => createHash("sha256").update(b).digest("hex");

/** Waits until the chat is connected. */
const connected = async (page: Page) => {
  await expect(field(page)).toBeVisible();
  await expect(page.getByText(/onnecting to the agent|agent is still starting/)).toHaveCount(0, { timeout: 30_000 });
};

/** A folder with files to send, which is removed. */
async function folder() {
  const dir = await mkdtemp(join(tmpdir(), "cloudbot-files-"));
  return {
    write: async (name: string, contents: Uint8Array | string) => {
      await writeFile(join(dir, name), contents);
      return join(dir, name);
    },
    remove: () => rm(dir, { recursive: true, force: true }),
  };
}

/** Drags a file from outside the browser to a place of the page and drops it, as the system does. */
async function drop(page: Page, file: string, at: { x: number; y: number }) {
  const cdp = await page.context().newCDPSession(page);
  const data = { items: [], files: [file], dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "dragOver", "drop"] as const) {
    await cdp.send("Input.dispatchDragEvent", { type, ...at, data });
    if (type === "dragOver") await page.evaluate(() => new Promise((done) => requestAnimationFrame(done)));
  }
  await cdp.detach();
}

const middle = async (page: Page, name: string) => {
  const box = (await page.getByRole("region", { name }).boundingBox())!;
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
};

/** Pastes a picture into the message field. Returns its bytes. */
async function pastePicture(page: Page, width: number, height: number, noise = false) {
  const bytes = await field(page).evaluate(
    async (target, [w, h, noisy]) => {
      const canvas = document.createElement("canvas");
      canvas.width = w as number;
      canvas.height = h as number;
      const pen = canvas.getContext("2d")!;
      pen.fillStyle = "#c63";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      if (noisy) {
        const all = pen.getImageData(0, 0, canvas.width, canvas.height);
        for (let i = 0; i < all.data.length; i += 16_384) crypto.getRandomValues(all.data.subarray(i, i + 16_384));
        for (let i = 3; i < all.data.length; i += 4) all.data[i] = 255;
        pen.putImageData(all, 0, 0);
      }
      const blob = await new Promise<Blob>((done) => canvas.toBlob((b) => done(b!), "image/png"));
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([blob], "image.png", { type: "image/png" }));
      target.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
      return noisy ? [] : [...new Uint8Array(await blob.arrayBuffer())];
    },
    [width, height, noise] as const,
  );
  return new Uint8Array(bytes);
}

test("a picture is pasted and sent, and shown after a reload", async ({ page, server }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await connected(page);
  const bytes = await pastePicture(page, 400, 300);
  await expect(tray(page).getByText("image.png")).toBeVisible();
  await field(page).fill("What is this?");
  await look(page, "files-tray");
  await page.getByRole("button", { name: "Remove image.png" }).focus();
  await page.keyboard.press("Enter");
  await expect(tray(page)).toHaveCount(0);
  await expect(field(page)).toBeFocused();
  await pastePicture(page, 400, 300);
  await expect(tray(page).getByText("image.png")).toBeVisible();
  await page.keyboard.press("Enter");
  await expect(tray(page)).toHaveCount(0);
  await expect(log(page)).toContainText(`image.png, image/png, ${bytes.length} bytes`);
  await expect(sent(page).getByRole("img", { name: "image.png" })).toBeVisible();
  const kept = await server.media();
  expect(kept.map((f) => digest(f.bytes))).toContain(digest(bytes));

  await page.reload();
  await expect(log(page)).toContainText("What is this?");
  await expect(sent(page).getByRole("img", { name: "image.png" })).toBeVisible();
  await look(page, "files-sent");
});

test("files are dropped on the chat, and beside it change nothing", async ({ page, server }, info) => {
  const files = await folder();
  const contents = randomBytes(700_000);
  const file = await files.write("plan.bin", contents);
  await signUp(page, info);
  await firstDesktop(page);
  await connected(page);
  const url = page.url();
  await page.evaluate(() => Object.assign(window, { same: true }));
  const same = () => page.evaluate(() => "same" in window);

  // The desktop, the bar at the top.
  await drop(page, file, await middle(page, "Desktop"));
  await drop(page, file, { x: 300, y: 10 });
  expect([page.url(), await same()]).toEqual([url, true]);
  await expect(tray(page)).toHaveCount(0);

  await drop(page, file, await middle(page, "Chat"));
  await expect(tray(page).getByText("plan.bin")).toBeVisible();
  await page.getByRole("button", { name: "Send" }).click();
  await expect(log(page)).toContainText("plan.bin, application/octet-stream, 700000 bytes");
  await expect(sent(page).getByText("plan.bin")).toBeVisible();
  expect((await server.media()).map((f) => digest(f.bytes))).toContain(digest(contents));

  for (const path of ["/app/", "/app/keys", "/app/account"]) {
    await page.goto(path);
    await expect(page.getByRole("main")).toBeVisible();
    await page.evaluate(() => Object.assign(window, { same: true }));
    const there = page.url();
    await drop(page, file, { x: 400, y: 300 });
    await expect(page.getByText("Files can't be dropped here.").first()).toBeVisible();
    expect([page.url(), await same()], path).toEqual([there, true]);
  }
  await files.remove();
});

test("a file that is too large is refused before it is sent", async ({ page }, info) => {
  test.slow();
  const files = await folder();
  await signUp(page, info);
  await firstDesktop(page);
  await connected(page);
  const choose = page.getByLabel("Files to send");
  await choose.setInputFiles([
    await files.write("film.mp4", new Uint8Array(19_464_193)),
    await files.write("empty.txt", ""),
    await files.write("drawing.svg", "<svg>" + " ".repeat(6_291_456)),
    await files.write("fits.zip", new Uint8Array(12_000_000)),
  ]);
  const alert = page.getByRole("alert");
  await expect(alert).toContainText("“film.mp4” has 19.4 MB, and a file can have 19.4 MB.");
  await expect(alert).toContainText("“empty.txt” is empty, or a folder.");
  await expect(alert).toContainText("“drawing.svg” has 6.2 MB, and a picture can have 6.2 MB.");
  await expect(tray(page).getByRole("listitem")).toHaveText([/fits\.zip/]);
  await accessible(page, "files that are refused");
  await choose.setInputFiles([await files.write("also.zip", new Uint8Array(12_000_000))]);
  await expect(tray(page).getByRole("listitem")).toHaveCount(2);
  await page.getByRole("button", { name: "Send" }).click();
  await expect(alert).toContainText("The files of a message can have 19.6 MB together, and these have 24.0 MB.");
  await page.getByRole("button", { name: "Remove also.zip" }).click();
  await page.getByRole("button", { name: "Remove fits.zip" }).click();

  // A picture is scaled down instead.
  await pastePicture(page, 2_000, 1_600, true);
  await expect(tray(page)).toContainText(/image\.jpg.*scaled down from \d+\.\d MB/, { timeout: 60_000 });
  await page.getByRole("button", { name: "Remove image.jpg" }).click();

  // A long text becomes a file.
  await field(page).evaluate((target) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", "long ".repeat(20_000));
    target.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
  });
  await expect(alert).toContainText("The pasted text is longer than a message can be");
  await page.getByRole("button", { name: "Attach it as a text file" }).click();
  await expect(tray(page)).toContainText("message.txt");
  await page.getByRole("button", { name: "Send" }).click();
  await expect(log(page)).toContainText("message.txt, text/plain, 100000 bytes");
  await files.remove();
});

test("a message with a file that is written offline is delivered after a reload", async ({ page, server }, info) => {
  const files = await folder();
  const contents = randomBytes(300_000);
  await signUp(page, info);
  const instance = await firstDesktop(page);
  await connected(page);
  await page.routeWebSocket(/\/cloudbot$/, (ws) => ws.close({ code: 1011, reason: "away" }));
  await page.reload();
  await expect(page.getByText(/cannot be reached/).first()).toBeVisible();
  await page.getByLabel("Files to send").setInputFiles([await files.write("later.bin", contents)]);
  await expect(tray(page)).toContainText("later.bin");
  await field(page).fill("for later");
  await page.keyboard.press("Enter");
  await expect(log(page)).toContainText("Saved here until the agent can be reached");
  await expect(sent(page)).toContainText("later.bin");
  await files.remove(); // the browser has its own copy

  const again = await page.context().newPage();
  await page.close();
  await again.goto(`/app/desktops/${instance}`);
  await expect(log(again)).toContainText("later.bin, application/octet-stream, 300000 bytes", { timeout: 30_000 });
  expect((await server.media()).filter((f) => digest(f.bytes) === digest(contents))).toHaveLength(1);
  const left = await again.evaluate(
    () =>
      new Promise<number>((done) => {
        const asked = indexedDB.open("cloudbot.files");
        asked.addEventListener("success", () => {
          const count = asked.result.transaction("waiting").objectStore("waiting").count();
          count.addEventListener("success", () => done(count.result));
        });
      }),
  );
  expect(left, "messages whose files are still in the browser").toBe(0);
});
