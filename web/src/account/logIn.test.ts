import { afterEach, beforeEach, expect, test, vi } from "vitest";

vi.hoisted(() => vi.stubGlobal("location", { origin: "https://cloudbot.example.com" })); // the client reads it first

import { ApiError } from "@/api/client";
import { logIn } from "./logIn";

const who = { email: "ada@example.com", password: "a long enough pass phrase" };

let store: Map<string, string>;
let bodies: unknown[];
let answers: Response[];

const problem = (code: string) =>
  new Response(JSON.stringify({ type: "about:blank", title: "", status: 422, detail: "No.", code, request_id: "1" }), {
    status: 422,
    headers: { "Content-Type": "application/problem+json" },
  });
const tokens = () =>
  new Response(JSON.stringify({ access_token: "a", refresh_token: "r", token_type: "bearer", expires_in: 1 }), {
    headers: { "Content-Type": "application/json" },
  });

beforeEach(() => {
  store = new Map();
  bodies = [];
  vi.stubGlobal("localStorage", { getItem: (k: string) => store.get(k) ?? null });
  vi.stubGlobal("fetch", async (request: Request) => {
    bodies.push(await request.json());
    return answers.shift()!;
  });
});
afterEach(() => vi.unstubAllGlobals());

test("a replica of the previous version, which knows no device tokens, accepts the log-in", async () => {
  store.set("cloudbot.device", "device");
  answers = [problem("unknown_field"), tokens()];
  expect((await logIn(who)).access_token).toBe("a");
  expect(bodies).toEqual([{ ...who, device_token: "device" }, who]);
});

test("a browser that has no device token sends none", async () => {
  answers = [tokens()];
  await logIn(who);
  expect(bodies).toEqual([who]);
});

test("another refusal is not retried", async () => {
  store.set("cloudbot.device", "device");
  answers = [problem("wrong_credentials")];
  await expect(logIn(who)).rejects.toBeInstanceOf(ApiError);
  expect(bodies).toHaveLength(1);
});
