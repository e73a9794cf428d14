import { changed, pixels, screen, settled } from "./desktop";
import { expect, firstDesktop, look, signUp, test } from "./fixtures";

test("by mouse: a screen that answers, an agent that answers, and both side by side", async ({ page, context }, info) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);

  // What is typed is seen.
  const before = await pixels(page);
  await screen(page).click();
  await page.keyboard.type("echo hello");
  await changed(page, before);
  await page.keyboard.press("Control+u");

  // From here to there: text of this computer is pasted there; and back: what is selected there is here.
  await page.evaluate(() => navigator.clipboard.writeText("grüße-aus-der-ferne"));
  await page.getByRole("textbox", { name: /message/i }).click();
  await screen(page).click();
  await page.waitForTimeout(500); // the clipboard is handed over when the screen gets the focus
  await page.keyboard.type("clear; cat > /dev/null; echo '");
  await page.keyboard.press("Shift+Insert");
  await page.keyboard.type("'");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Control+d");

  // A chat turn.
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill("Are you there?");
  await message.press("Enter");
  await expect(page.getByRole("log")).toContainText("stand-in", { timeout: 20_000 });
  await expect(page.getByRole("log")).toContainText("Are you there?");
  await look(page, "workspace");

  // Moving the screen between the layouts keeps its connection.
  let sockets = 0;
  page.on("websocket", () => sockets++);
  for (const view of ["Desktop only", "Chat only", "Desktop and chat"]) await page.getByRole("radio", { name: view }).check({ force: true });
  await expect(page.getByText(/^Connected/)).toBeVisible();
  const again = await pixels(page);
  await screen(page).click();
  await page.keyboard.type("ls");
  await changed(page, again);
  expect(sockets).toBe(0);
});
