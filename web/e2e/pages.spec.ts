import { expect, firstDesktop, signUp, test } from "./fixtures";

test("a new page has the focus at its beginning, whichever way it came", async ({ page }, info) => {
  await signUp(page, info);
  const main = page.getByRole("main");
  await expect(main).toBeFocused();
  await firstDesktop(page);
  await expect(main).toBeFocused();
  await page.getByRole("button", { name: "More for My desktop" }).click();
  await page.getByRole("menuitem", { name: "History" }).click();
  await expect(page.getByText("instance.requested")).toBeVisible();
  await expect(main).toBeFocused();
  await page.getByRole("link", { name: "API keys" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "API keys" })).toBeVisible();
  await expect(main).toBeFocused();
  await page.goBack();
  await expect(page.getByRole("heading", { level: 1, name: "My desktop" })).toBeVisible();
  await expect(main).toBeFocused();
  // Within a page it stays where it is.
  await page.getByRole("tab", { name: "History" }).focus();
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("tab", { name: "Diagnostics" })).toBeFocused();

  await page.goto("/app/desktops/01ARZ3NDEKTSV4RRFFQ69G5FAV/about");
  await expect(page.getByText("There is no such page")).toBeVisible();
  await expect(main).toHaveCount(1);
});
