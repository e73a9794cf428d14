import { expect, firstDesktop, hasFocus, look, password, signUp, test } from "./fixtures";

test("a program uses an API token within its scopes, until the token is revoked", async ({ page, server }, info) => {
  await signUp(page, info);
  const id = await firstDesktop(page);
  await page.goto("/app/account");
  await page.getByRole("button", { name: "Make a token" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Make the token" }).click();
  await expect(dialog.getByLabel("Name")).toBeFocused();
  await expect(dialog.getByText("Say what the token is for.")).toBeVisible();
  await look(page, "token");

  // By keyboard from here on.
  await page.keyboard.type("Nightly build");
  await dialog.getByLabel("For which desktops").focus();
  await page.keyboard.press("ArrowDown");
  await dialog.getByRole("checkbox", { name: "My desktop" }).focus();
  await page.keyboard.press("Space");
  await expect(dialog.getByRole("checkbox", { name: /^Keys/ })).toHaveCount(0);
  await dialog.getByLabel("Your password").focus();
  await page.keyboard.type("not the password");
  await page.keyboard.press("Enter");
  await expect(dialog.getByText("The current password is wrong.")).toBeVisible();
  await expect(dialog.getByLabel("Your password")).toBeFocused();
  await page.keyboard.press("Control+a");
  await page.keyboard.type(password);
  await page.keyboard.press("Enter");
  const text = await dialog.locator("code").first().textContent();
  expect(text).toMatch(/^cbt_[0-9A-Za-z]{94}$/);
  await look(page, "token-made");
  await page.keyboard.press("Escape");
  await expect(dialog).toHaveCount(0);
  await hasFocus(page);
  await expect(page.getByText(text!)).toHaveCount(0);
  await expect(page.getByText("Read; only for My desktop")).toBeVisible();
  await expect(page.getByText(/not used yet/)).toBeVisible();

  const ask = (method: string, path: string) =>
    fetch(server.url + path, { method, headers: { Authorization: `Bearer ${text}` } });
  expect((await ask("GET", `/api/instances/${id}`)).status).toBe(200);
  const refused = await ask("POST", `/api/instances/${id}/stop`);
  expect(refused.status).toBe(403);
  expect(await refused.json()).toMatchObject({ code: "missing_scope" });
  await expect(page.getByText(/last used/)).toBeVisible(); // without a reload
  await look(page, "tokens");

  await page.getByRole("button", { name: "Revoke the token Nightly build" }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Revoke" }).click();
  await expect(page.getByText("Nightly build")).toHaveCount(0);
  await hasFocus(page);
  expect((await ask("GET", `/api/instances/${id}`)).status).toBe(401);
  await expect(page.getByText("An API token was revoked.")).toBeVisible();
});
