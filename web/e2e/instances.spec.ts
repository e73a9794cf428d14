import { expect, firstDesktop, hasFocus, look, signUp, test } from "./fixtures";

test("a desktop can be created, renamed, stopped, started, examined and terminated", async ({
  page,
  context,
}, info) => {
  await signUp(page, info);
  await look(page, "first-minute");
  await expect(page.getByRole("switch")).toHaveCount(0); // there are no terminated desktops
  const id = await firstDesktop(page);

  // A second tab shows the changes of the first without a reload.
  const second = await context.newPage();
  await second.goto("/app/");
  const card = second.getByRole("article", { name: "My desktop" });
  await expect(card.getByText("Ready")).toBeVisible();

  await page.bringToFront();
  await page.getByRole("button", { name: "More actions for My desktop" }).click();
  await page.getByRole("menuitem", { name: "Rename…" }).click();
  await page.getByRole("textbox", { name: "Name" }).fill(" ");
  await page.getByRole("button", { name: "Rename" }).click();
  await expect(page.getByText("Enter a name.")).toBeVisible();
  await page.getByRole("textbox", { name: "Name" }).fill("Research");
  await page.getByRole("button", { name: "Rename" }).click();
  await expect(page.getByRole("heading", { name: "Research" })).toBeVisible();
  await expect(second.getByRole("article", { name: "Research" })).toBeVisible();

  await second.bringToFront();
  await second.getByRole("button", { name: "Stop Research" }).click();
  await expect(page.getByText("This desktop is stopped")).toBeVisible({ timeout: 60_000 });
  await expect(second.getByRole("button", { name: "Start Research" })).toBeVisible();
  await expect(second.getByRole("article", { name: "Research" })).toBeFocused();
  await look(page, "stopped");
  await page.getByRole("button", { name: "Start" }).click();
  await expect(page.getByRole("button", { name: "Start" })).toHaveCount(0);
  await hasFocus(page);
  await expect(second.getByRole("article", { name: "Research" }).getByText("Ready")).toBeVisible({ timeout: 30_000 });

  await page.goto(`/app/desktops/${id}/about`);
  await expect(page.getByText("instance.requested")).toBeVisible();
  await expect(page.getByText("instance.stop_requested")).toBeVisible();
  // The newest event is first, and new events appear above it.
  const newest = page.getByRole("tabpanel").getByRole("listitem").getByRole("listitem").first();
  await expect(newest).toContainText("Everything is ready.");
  await second.bringToFront();
  await second.getByRole("button", { name: "More actions for Research" }).click();
  await second.getByRole("menuitem", { name: "Rename…" }).click();
  await second.getByRole("textbox", { name: "Name" }).fill("Research 2");
  await second.getByRole("button", { name: "Rename" }).click();
  await expect(newest).toContainText("It was renamed.");
  await second.getByRole("button", { name: "More actions for Research 2" }).click();
  await second.getByRole("menuitem", { name: "Rename…" }).click();
  await second.getByRole("textbox", { name: "Name" }).fill("Research");
  await second.getByRole("button", { name: "Rename" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Research", exact: true })).toBeVisible();
  await look(page, "history");
  await page.getByRole("tab", { name: "History" }).press("ArrowRight");
  await expect(page.getByRole("tab", { name: "Diagnostics" })).toBeFocused();
  await expect(page.getByRole("region", { name: "Log, text" })).toContainText(/\S/);
  await page.getByRole("button", { name: "Test the keys" }).click();
  await expect(
    page.getByText("The machine has no API key. Add one under API keys; no restart is needed."),
  ).toBeVisible();
  await look(page, "diagnostics");

  // Terminating asks for the name; Enter on Cancel cancels.
  await page.getByRole("button", { name: "More actions for Research" }).click();
  await page.getByRole("menuitem", { name: "Terminate…" }).click();
  const question = page.getByRole("alertdialog");
  await expect(question.getByRole("button", { name: "Terminate" })).toBeDisabled();
  await look(page, "terminate");
  await expect(question.getByRole("button", { name: "Cancel" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(question).toHaveCount(0);
  await page.getByRole("button", { name: "More actions for Research" }).click();
  await page.getByRole("menuitem", { name: "Terminate…" }).click();
  await question.getByRole("textbox").fill("research");
  await expect(question.getByRole("button", { name: "Terminate" })).toBeDisabled();
  await question.getByRole("textbox").fill("Research");
  await question.getByRole("button", { name: "Terminate" }).click();
  await expect(question).toHaveCount(0);
  await hasFocus(page);
  await expect(second.getByRole("button", { name: "Create my desktop" })).toBeVisible({ timeout: 60_000 });
  await second.getByRole("switch", { name: "Show terminated desktops" }).check();
  await expect(second.getByRole("article", { name: "Research" }).getByText("Terminated")).toBeVisible();
  await page.goto(`/app/desktops/${id}`);
  await expect(page.getByText("This desktop is terminated")).toBeVisible();
  await look(page, "terminated");
  await page.goto(`/app/desktops/${id}/about`);
  await expect(page.getByText("The desktop was terminated.")).toBeVisible();
  await look(page, "terminated-history");
});

test("sizes are explained, and a refusal shows what to do", async ({ page }, info) => {
  await signUp(page, info);
  await page.getByRole("button", { name: "Choose a name and a size first" }).click();
  await expect(page.getByText("Runs on the server's own computer")).toBeVisible();
  await look(page, "create");
  await page.getByRole("textbox", { name: "Name" }).fill("One");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await expect(page.getByRole("heading", { name: "One" })).toBeVisible();
  await page.goBack();
  await expect(page.getByRole("article", { name: "One" })).toBeVisible();
  await expect(page.getByRole("dialog")).toHaveCount(0);
  for (const name of ["Two", "Three"]) {
    await page.goto("/app/?create=true");
    await page.getByRole("textbox", { name: "Name" }).fill(name);
    await page.getByRole("button", { name: "Create", exact: true }).click();
    await expect(page.getByRole("heading", { name })).toBeVisible();
  }
  await page.goto("/app/?create=true");
  await expect(page.getByRole("dialog").getByRole("status")).toContainText("You have 3 of 3 desktops.");
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await hasFocus(page);
  await expect(page.getByRole("article")).toHaveCount(3);
  await look(page, "desktops");
});

test("a name is confirmed as it looks, whatever its white space and letters", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("button", { name: "More actions for My desktop" }).click();
  await page.getByRole("menuitem", { name: "Rename…" }).click();
  await page.getByRole("textbox", { name: "Name" }).fill("Cafe\u0301  at\u00a0night");
  await page.getByRole("button", { name: "Rename" }).click();
  await page.getByRole("button", { name: /^More actions for Caf/ }).click();
  await page.getByRole("menuitem", { name: "Terminate…" }).click();
  const question = page.getByRole("alertdialog");
  await question.getByRole("textbox").fill("Cafe at night");
  await expect(question.getByRole("button", { name: "Terminate" })).toBeDisabled();
  await question.getByRole("textbox").fill(" Caf\u00e9 at night");
  await question.getByRole("button", { name: "Terminate" }).click();
  await expect(page.getByText("is being terminated")).toBeVisible();
});
