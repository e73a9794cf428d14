// Behind a misconfigured proxy, the workspace names the wrong setting.
import { expect, look, signUp, test } from "./fixtures";
import { Proxy } from "./proxy";

for (const [what, upgrades, says, chatSays] of [
  [
    "does not pass on upgrades",
    false,
    "A proxy between you and the server blocks WebSockets.",
    "A proxy between you and the server blocks WebSockets",
  ],
  [
    "replaces the Host",
    true,
    "Desktops can't be opened from this address",
    "The agent can't be reached from this address.",
  ],
] as const) {
  test(`a proxy that ${what} is distinguished from an unreachable machine`, async ({
    browser,
    server,
    complaints,
  }, info) => {
    const proxy = await Proxy.to(server.url, { upgrades });
    const context = await browser.newContext({
      baseURL: proxy.url,
      extraHTTPHeaders: { "X-Forwarded-For": `203.0.113.${upgrades ? 1 : 2}` },
    });
    const page = await context.newPage();
    page.on(
      "console",
      (m) =>
        m.type() === "error" &&
        !/^Failed to load resource|^WebSocket connection to/.test(m.text()) &&
        complaints.push(m.text()),
    );
    await signUp(page, info);
    await page.getByRole("button", { name: "Create my desktop" }).click();
    await expect(page.getByText(says)).toBeVisible({ timeout: 30_000 });
    await expect(page.getByText(chatSays).last()).toBeVisible();
    await look(page, `proxy-${upgrades ? "host" : "upgrade"}`);
    expect(complaints).toEqual([]);
    await context.close();
    proxy.close();
  });
}
