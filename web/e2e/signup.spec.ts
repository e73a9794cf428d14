import { expect, look, newEmail, password, test } from "./fixtures";
import { Server } from "./server";

test("sign-up by invitation reads the code from the URL, and shows when sign-up is closed", async ({ page }, info) => {
  test.setTimeout(300_000);
  const server = await Server.start({ SIGNUP: "invite" });
  try {
    const email = newEmail(info);
    const invited = JSON.parse(await server.tool("accounts", "invite", email, "--json")) as {
      url: string;
      code: string;
    };
    expect(invited.url).toBe(`${server.url}/app/signup#invite=${invited.code}`);

    // Without the URL, the form asks for the code.
    await page.goto(`${server.url}/app/login`);
    await expect(page.getByText("Have an invitation?")).toBeVisible();
    await page.getByRole("link", { name: "Create an account" }).click();
    const code = page.getByLabel("Invitation code");
    await expect(code).toHaveValue("");
    await page.getByLabel("E-mail").fill(email);
    await page.getByLabel("Password", { exact: true }).fill(password);
    await page.getByRole("button", { name: "Create account" }).click();
    await expect(page.getByText("Enter your invitation code.")).toBeVisible();
    await code.fill("AAAAA-AAAAA");
    await page.getByRole("button", { name: "Create account" }).click();
    await expect(
      page.getByText("This invitation code is wrong, has been used, has expired, or is for another e-mail address."),
    ).toBeVisible();
    await expect(code).toBeFocused();
    await look(page, "sign-up-invitation");

    await page.goto("about:blank"); // a new fragment alone would not reload the page
    await page.goto(invited.url);
    await expect(code).toHaveValue(invited.code);
    await page.getByLabel("E-mail").fill(email);
    await page.getByLabel("Password", { exact: true }).fill(password);
    await page.getByRole("button", { name: "Create account" }).click();
    await expect(page.getByRole("button", { name: "Create my desktop" })).toBeVisible();

    await server.restart({ SIGNUP: "closed" });
    await page.evaluate(() => localStorage.clear());
    await page.goto(`${server.url}/app/login`);
    await expect(page.getByRole("heading", { name: "Log in" })).toBeVisible();
    await expect(page.getByRole("link", { name: "Create an account" })).toHaveCount(0);
    await page.goto(`${server.url}/app/signup`);
    await expect(page.getByText("Sign-up is closed on this server.")).toBeVisible();
    await expect(page.getByRole("button", { name: "Create account" })).toHaveCount(0);
    await look(page, "sign-up-closed");
  } finally {
    await server.remove();
  }
});
