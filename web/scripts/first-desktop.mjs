// Measures the wait of a new user: from pressing the button to the desktop's picture.
// CLOUDBOT_URL=http://127.0.0.1:8000 node web/scripts/first-desktop.mjs
// It creates six accounts with a desktop each; use a disposable server.
import { execFileSync } from "node:child_process";
import { chromium } from "@playwright/test";

const url = process.env.CLOUDBOT_URL ?? "http://127.0.0.1:8000";
const executablePath = execFileSync("sh", ["-c", 'command -v "${CHROMIUM:-chromium}"'], { encoding: "utf8" }).trim();
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
});
const took = [];
for (let i = 0; i < 6; i++) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${url}/app/signup`);
  await page.getByLabel("E-mail").fill(`first-desktop-${Date.now()}@example.com`);
  await page.getByLabel("Password", { exact: true }).fill("correct horse battery");
  await page.getByRole("button", { name: "Create account" }).click();
  await page.getByRole("button", { name: "Create my desktop" }).waitFor();
  const pressed = Date.now();
  await page.getByRole("button", { name: "Create my desktop" }).click();
  // The terminal's dark window is drawn.
  await page.waitForFunction(() => {
    const canvas = document.querySelector(".cloudbot-desktop canvas");
    if (!canvas?.width) return false;
    const [r, g, b] = canvas.getContext("2d").getImageData(canvas.width * 0.4, canvas.height * 0.6, 1, 1).data;
    return r + g + b > 0 && r + g + b < 96;
  });
  took.push(Date.now() - pressed);
  await context.close();
}
await browser.close();
took.sort((a, b) => a - b);
console.log(`button to picture: median ${took[3]} ms, longest ${took.at(-1)} ms, of ${took.length}`);
