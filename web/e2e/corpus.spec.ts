// Texts from a machine, an agent or an owner are shown as text everywhere. The machine here is hostile: the test
// answers in its place.
import { expect, firstDesktop, signUp, test } from "./fixtures";
import type { Page, WebSocketRoute } from "@playwright/test";

const corpus = [
  `<img src=x onerror="window.pwned=1">`,
  `<script>window.pwned=1</script>`,
  `"><svg onload=window.pwned=1>`,
  `<iframe srcdoc="<script>parent.pwned=1</script>"></iframe>`,
  `[click](javascript:window.pwned=1)`,
  `[click](  JaVaScRiPt:window.pwned=1)`,
  `[click](java\nscript:window.pwned=1)`,
  `[click](data:text/html,<script>window.pwned=1</script>)`,
  `[click](vbscript:window.pwned=1)`,
  `<javascript:window.pwned=1>`,
  `![x](javascript:window.pwned=1)`,
  `![x](https://evil.example/track.png)`,
  `<a href="javascript:window.pwned=1">click</a>`,
  `[ref]: javascript:window.pwned=1\n\n[ref]`,
  "```html\n<img src=x onerror=window.pwned=1>\n```",
  `<style>*{display:none}</style>`,
  `<form action="https://evil.example"><button>x</button></form>`,
  `\u202eevil\u2066`,
];

/** Nothing in the corpus ran, became an element, or became a link with a scheme that runs. */
async function harmless(page: Page) {
  const found = await page.evaluate(() => ({
    ran: (window as unknown as { pwned?: number }).pwned !== undefined,
    // In the whole body: dialogs, menus and toasts are outside the page.
    elements: [
      ...document.body.querySelectorAll(
        "iframe, script, style, form[action], img[src^='http'], img[src='x'], svg[onload], [onerror], [onload], [srcdoc]",
      ),
    ].map((e) => e.outerHTML),
    links: [...document.querySelectorAll<HTMLAnchorElement>("a[href]")]
      .filter((a) => !/^(https?:|mailto:)$/.test(a.protocol))
      .map((a) => a.outerHTML),
  }));
  expect(found).toEqual({ ran: false, elements: [], links: [] });
}

test("the check for harmless content finds harmful content anywhere on the page", async ({ page, complaints }) => {
  await page.goto("/app/login");
  await harmless(page);
  for (const text of [
    corpus[0]!,
    corpus[3]!,
    corpus[12]!,
    corpus[15]!,
    corpus[16]!,
    `<svg onload="1">`,
    `<img src="https://evil.example/track.png">`,
  ]) {
    await page.evaluate((html) => {
      const there = document.createElement("div");
      there.id = "planted";
      there.innerHTML = html;
      document.body.append(there);
    }, text);
    await expect(harmless(page), text).rejects.toThrow();
    await page.evaluate(() => document.getElementById("planted")!.remove());
  }
  complaints.length = 0; // the policy blocked each of them
});

test("names of desktops are shown as text", async ({ page }, info) => {
  await signUp(page, info);
  const token = await page.evaluate(() => JSON.parse(localStorage.getItem("cloudbot.session")!).access as string);
  const names = corpus.filter((t) => t.length <= 64 && !/[\n\u202e]/.test(t));
  const authorization = { Authorization: `Bearer ${token}` };
  const made = await page.request.post("/api/instances", { headers: authorization, data: { name: names[0]! } });
  const { id } = (await made.json()) as { id: string };
  for (const name of names) {
    const answer = await page.request.patch(`/api/instances/${id}`, { headers: authorization, data: { name } });
    expect(answer.ok(), name).toBe(true);
    await expect(page.getByRole("heading", { name })).toBeVisible();
    await harmless(page);
  }
  const name = names.at(-1)!;
  for (const path of [`/app/desktops/${id}`, `/app/desktops/${id}/about`, "/app/"]) {
    await page.goto(path);
    await expect(page.getByRole("heading", { name })).toBeVisible();
    await harmless(page);
  }
  await page.getByRole("button", { name: /^More actions for/ }).click();
  await page.getByRole("menuitem", { name: "Terminate…" }).click();
  await expect(page.getByRole("alertdialog")).toContainText(name);
  await harmless(page);
  await page.getByRole("alertdialog").getByRole("textbox").fill(name);
  await page.getByRole("alertdialog").getByRole("button", { name: "Terminate" }).click();
  await expect(page.getByRole("region", { name: "Notifications" })).toContainText(name);
  await harmless(page);
});

test("lines of a machine's log and its reports are shown as text", async ({ page }, info) => {
  await signUp(page, info);
  await page.route("**/api/instances/*/boot", (route) =>
    route.fulfill({
      contentType: "text/event-stream",
      body:
        corpus
          .map(
            (text, i) =>
              `id: b.${i}\nevent: line\ndata: ${JSON.stringify({ seq: i, at: "2026-11-01T10:00:00Z", phase: "booting", text })}\n\n`,
          )
          .join("") +
        `event: progress\ndata: ${JSON.stringify({ phase: "booting", detail: corpus[0], progress: 30, at: "2026-11-01T10:00:00Z" })}\n\n`,
    }),
  );
  await page.route(/\/api\/instances\/[0-9A-Z]{26}$/, async (route) => {
    const answer = await route.fetch();
    const body = (await answer.json()) as Record<string, unknown>;
    await route.fulfill({
      response: answer,
      json: {
        ...body,
        status: "launching",
        phase: "booting",
        ready: false,
        phase_detail: corpus[1],
        status_reason: corpus[2],
        versions: { os: corpus[0], [corpus[1]!]: "1" },
      },
    });
  });
  await page.getByRole("button", { name: "Create my desktop" }).click();
  await page.getByText("Log", { exact: true }).click();
  await expect(page.getByRole("region", { name: "Startup log" })).toContainText(corpus[3]!);
  await harmless(page);

  await page.route("**/debug/*", (route) => route.fulfill({ contentType: "text/plain", body: corpus.join("\n") }));
  await page.route(/\/api\/instances\/[0-9A-Z]{26}$/, async (route) => {
    const answer = await route.fetch();
    await route.fulfill({
      response: answer,
      json: {
        ...((await answer.json()) as object),
        status: "running",
        ready: true,
        versions: { os: corpus[0], [corpus[1]!]: "1" },
      },
    });
  });
  await page.goto(`${page.url()}/about?tab=diagnostics`);
  await expect(page.getByRole("region", { name: "Log, text" })).toContainText(corpus[3]!);
  await page.getByRole("button", { name: "Test the keys" }).click();
  await expect(page.getByRole("region", { name: "API keys, text" })).toContainText(corpus[3]!);
  await harmless(page);
});

test("the name of a screen is shown as text", async ({ page }, info) => {
  const name = corpus.filter((t) => !t.includes("\n")).join(" ");
  await page.routeWebSocket(/\/vnc$/, (socket) => rfb(socket, name));
  await signUp(page, info);
  // noVNC looks for a channel's members on the channel and its prototype; the test's socket inherits them.
  await page.evaluate(() => {
    const members = ["send", "close", "binaryType", "onerror", "onmessage", "onopen"];
    for (let from = WebSocket.prototype as object | null; from; from = Object.getPrototypeOf(from) as object | null) {
      for (const m of members) {
        const d = Object.getOwnPropertyDescriptor(from, m);
        if (d && !Object.hasOwn(WebSocket.prototype, m)) Object.defineProperty(WebSocket.prototype, m, d);
      }
    }
  });
  await firstDesktop(page);
  await expect(page.getByText(/^Connected · 64 × 48/)).toBeVisible({ timeout: 60_000 });
  await harmless(page);
});

const u16 = (n: number) => Buffer.from([n >> 8, n & 255]);
const u32 = (n: number) => Buffer.from([n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255]);

/** Plays the server's side of RFB up to a screen with this name, and draws it once. */
function rfb(socket: WebSocketRoute, name: string) {
  const send = (...bytes: (number | Uint8Array)[]) =>
    socket.send(Buffer.concat(bytes.map((b) => (typeof b === "number" ? Buffer.from([b]) : b))));
  let step = 0;
  send(Buffer.from("RFB 003.008\n"));
  socket.onMessage((message) => {
    const data = Buffer.from(message as Buffer);
    switch (step++) {
      case 0:
        return send(1, 1); // one security type: none
      case 1:
        return send(u32(0));
      case 2: {
        const text = Buffer.from(name);
        const format = Buffer.from([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
        return send(u16(64), u16(48), format, u32(text.length), text);
      }
      default:
        // A request for the screen is answered with the whole screen, in one colour.
        if (data.includes(3) && step < 8)
          send(0, 0, u16(1), u16(0), u16(0), u16(64), u16(48), u32(0), Buffer.alloc(64 * 48 * 4, 0x55));
    }
  });
}

test("an agent's messages are shown as text", async ({ page }, info) => {
  await signUp(page, info);
  await page.routeWebSocket(/\/cloudbot$/, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((m) => server.send(m));
    server.onMessage((m) => {
      // The history comes from the hostile machine.
      const frame = JSON.parse(String(m)) as { type?: string; ok?: boolean; payload?: { messages?: unknown[] } };
      if (frame.type === "res" && frame.ok && Array.isArray(frame.payload?.messages)) {
        frame.payload.messages = corpus.flatMap((text, i) => [
          { role: "user", content: [{ type: "text", text }], timestamp: i * 2 + 1, runId: `u${i}` },
          { role: "assistant", content: [{ type: "text", text }], timestamp: i * 2 + 2, runId: `a${i}` },
        ]);
      }
      socket.send(JSON.stringify(frame));
    });
  });
  await firstDesktop(page);
  const log = page.getByRole("log");
  await expect(log).toContainText("evil", { timeout: 60_000 });
  await expect(log.getByText("click").first()).toBeVisible();
  await harmless(page);
});

// The texts of the agent's frames that users read; the second set holds those that must fit on one line.
const texts = new Set([
  "command",
  "text",
  "deltaText",
  "errorMessage",
  "question",
  "description",
  "warningText",
  "detail",
]);
const lines = new Set(["title", "label", "displayName", "derivedTitle", "header", "cwd", "host", "name"]);
const allTexts = corpus.join("\n\n");

/** Makes every text that users read hostile. */
function hostile(value: unknown, key: string, next: () => string): unknown {
  if (Array.isArray(value)) return value.map((v) => hostile(v, key, next));
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, hostile(v, k, next)]));
  if (typeof value !== "string") return value;
  return texts.has(key) ? allTexts : lines.has(key) ? next() : value;
}

test("an agent's tools, approvals, questions, errors and chat titles are shown as text", async ({ page }, info) => {
  await signUp(page, info);
  await page.routeWebSocket(/\/cloudbot$/, (socket) => {
    const server = socket.connectToServer();
    let n = 0;
    const next = () => corpus[n++ % corpus.length]!;
    socket.onMessage((m) => server.send(m));
    server.onMessage((m) => {
      const frame = JSON.parse(String(m)) as { type?: string; payload?: unknown };
      socket.send(
        JSON.stringify(frame.type === "hello-ok" ? frame : { ...frame, payload: hostile(frame.payload, "", next) }),
      );
    });
  });
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  const log = page.getByRole("log");
  const message = page.getByRole("textbox", { name: /message/i });
  const say = async (text: string) => {
    await message.fill(text);
    await message.press("Enter");
  };
  const idle = () => expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });
  const one = corpus[1]!;

  await say("/tool");
  await expect(log.locator("details").nth(1)).toBeVisible({ timeout: 60_000 });
  await idle();
  for (const tool of await log.locator("summary").all()) await tool.click();
  await expect(log.locator("details").first()).toContainText(one);
  await harmless(page);

  await say("/approve");
  const deny = page.getByRole("button", { name: "Deny" });
  await expect(deny).toBeVisible({ timeout: 60_000 });
  await expect(page.locator("section", { has: deny }).last()).toContainText(one);
  await harmless(page);
  await deny.click();
  await idle();

  await say("/ask");
  const question = page.getByRole("form", { name: "Question from the agent" });
  await expect(question).toContainText(one, { timeout: 60_000 });
  await harmless(page);
  await page.getByRole("button", { name: "Do not answer" }).click();
  await idle();

  await say("/error");
  await expect(log.getByRole("alert").first()).toContainText(one, { timeout: 60_000 });
  await harmless(page);
  await idle();

  await page.getByRole("button", { name: /^New chat/ }).click();
  await say("hello");
  await idle();
  await page.reload();
  await page.getByRole("button", { name: /^Chat: / }).click();
  await expect(page.getByRole("menuitemradio").nth(1)).toBeVisible();
  await expect(page.getByRole("menu")).toContainText(/<|javascript:/);
  await harmless(page);
});
