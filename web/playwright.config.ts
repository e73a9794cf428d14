import { execFileSync } from "node:child_process";
import { defineConfig } from "@playwright/test";

/** Returns the distribution's browser, or the one that CHROMIUM names. */
function chromium(): string {
  return execFileSync("sh", ["-c", 'command -v "${CHROMIUM:-chromium}"'], { encoding: "utf8" }).trim();
}

export default defineConfig({
  testDir: "e2e",
  outputDir: "test-results",
  fullyParallel: false, // tests of a file share an account
  workers: 3, // they wait most of the time
  retries: 0, // a test that passes the second time has a fault, or found one
  timeout: 300_000, // for a hang, not for a slow machine: the longest test takes a dozen screenshots
  expect: { timeout: 30_000 },
  reporter: [["list"]],
  use: {
    browserName: "chromium",
    viewport: { width: 1280, height: 800 },
    // Without the film: recording it took a sixth of the suite's time, and a failure keeps the DOM's snapshots.
    trace: { mode: "retain-on-failure", screenshots: false, snapshots: true, sources: false },
    screenshot: "only-on-failure",
    launchOptions: {
      executablePath: chromium(),
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
