import { expect, firstDesktop, look, signUp, test } from "./fixtures";

test("a key is set, replaced and removed, and never shown", async ({ page }, info) => {
  await signUp(page, info);
  await page.getByRole("link", { name: "API keys" }).click();
  await expect(page.getByText("No key yet")).toBeVisible();
  await look(page, "keys-empty");

  await page.getByRole("button", { name: "Set key for Anthropic" }).click();
  await page.getByRole("button", { name: "Store" }).click();
  await expect(page.getByText("Paste the key here.")).toBeVisible();
  await page.getByLabel("API key", { exact: true }).fill("short");
  await page.getByRole("button", { name: "Store" }).click();
  await expect(page.getByRole("dialog").getByRole("alert")).toBeVisible();
  await page.getByLabel("API key", { exact: true }).fill("sk-ant-canary-00000000000000001234");
  await look(page, "key-dialog");
  await page.getByRole("button", { name: "Store" }).click();
  await expect(page.getByText("1234")).toBeVisible();
  await expect(page.getByRole("dialog")).toHaveCount(0);

  await page.getByRole("button", { name: "Replace for Anthropic" }).click();
  await page.getByLabel("API key", { exact: true }).fill("sk-ant-canary-00000000000000005678");
  await page.getByRole("button", { name: "Replace", exact: true }).click();
  await expect(page.getByText("5678")).toBeVisible();
  expect(await page.content()).not.toContain("sk-ant-canary");
  await look(page, "keys");

  await page.getByRole("button", { name: "Remove the key for Anthropic" }).click();
  await expect(page.getByRole("alertdialog").getByRole("button", { name: "Cancel" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("alertdialog")).toHaveCount(0);
  await expect(page.getByText("5678")).toBeVisible();
  await page.getByRole("button", { name: "Remove the key for Anthropic" }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Remove" }).click();
  await expect(page.getByText("No key yet")).toBeVisible();
});

test("a provider's verdict on a key is not shown for the key that replaces it", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await page.route("**/debug/testapi", (route) =>
    route.fulfill({
      contentType: "text/plain",
      body: JSON.stringify({
        providers: [
          { provider: "anthropic", result: "unauthorised", status: 401 },
          { provider: "openai", result: "accepted", status: 200 },
        ],
      }),
    }),
  );
  await page.goto("/app/keys");
  const set = async (button: string, key: string, store: string) => {
    await page.getByRole("button", { name: button }).click();
    await page.getByLabel("API key", { exact: true }).fill(key);
    await page.getByRole("button", { name: store, exact: true }).click();
    await expect(page.getByRole("dialog")).toHaveCount(0);
  };
  await set("Set key for Anthropic", "sk-ant-canary-00000000000000001234", "Store");
  await set("Set key for OpenAI", "sk-canary-000000000000000000001234", "Store");
  await page.getByRole("button", { name: "Test the keys" }).click();
  const refused = page.getByText("The provider rejects the key; replace it under API keys (401).");
  await expect(refused).toBeVisible();
  await set("Replace for Anthropic", "sk-ant-canary-00000000000000005678", "Replace");
  await expect(page.getByText("5678")).toBeVisible();
  await expect(refused).toHaveCount(0);
  await expect(page.getByText("The provider accepts the key (200).")).toBeVisible();
  await page.getByRole("button", { name: "Test the keys" }).click();
  await expect(refused).toBeVisible();
});
