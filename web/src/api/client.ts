// The way to the server: every call carries the access token, is repeated once after a silent
// refresh, and fails with an ApiError that has a sentence for people.
import createClient from "openapi-fetch";
import { newID } from "./id";
import type { components, paths } from "./schema";
import { session } from "./session";

export type Schemas = components["schemas"];
export type Instance = Schemas["Instance"];
export type Status = Schemas["Status"];
export type Phase = Schemas["Phase"];
export type HistoryEvent = Schemas["HistoryEvent"];
export type Session = Schemas["Session"];

/** A refusal of the server, or that it cannot be reached (status 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    /** Stable, for programs; "offline" with status 0. */
    readonly code: string,
    /** A sentence for people. */
    readonly detail: string,
    /** Seconds to wait before another try, where the server said so. */
    readonly retryAfter?: number,
    readonly requestId?: string,
    /** The field of the request that it is about. */
    readonly field?: string,
  ) {
    super(detail);
    this.name = "ApiError";
  }
}

/** What to tell people of any failure. */
export function sentence(error: unknown): string {
  return error instanceof ApiError
    ? error.detail
    : "Something went wrong on this page. Reload it; your desktops are not affected.";
}

const offline = () =>
  new ApiError(0, "offline", "The server cannot be reached. Check your connection, then try again.");

/** Makes an ApiError of an answer that is not 2xx. */
export async function refusal(response: Response): Promise<ApiError> {
  let body: Partial<Schemas["Problem"]> = {};
  try {
    body = (await response.clone().json()) as Partial<Schemas["Problem"]>;
  } catch {
    // a proxy's page: the status has to do
  }
  const detail =
    typeof body.detail === "string" && body.detail !== ""
      ? body.detail
      : `The server answered with ${response.status}. Try again later.`;
  const wait = Number(response.headers.get("Retry-After"));
  return new ApiError(
    response.status,
    typeof body.code === "string" ? body.code : "unknown",
    detail,
    wait > 0 ? wait : undefined,
    body.request_id,
    body.field,
  );
}

// The highest position that this tab knows of, by a command of its own or by an event: queries wait for
// it, so that who changed something, or heard of a change, sees it. The read models follow each at its pace.
let known = 0;

/** Queries from now on are as of this position, or later. */
export function heardOf(position: number) {
  if (position > known) known = position;
}

/** The server was restored from a backup: positions that this tab knows may never come. */
export function forgetHeard() {
  known = 0;
}

function prepared(request: Request, token: string | undefined): Request {
  const r = new Request(request);
  if (token) r.headers.set("Authorization", `Bearer ${token}`);
  if (request.method === "GET" && known > 0) r.headers.set("Cloudbot-Wait-For", String(known));
  return r;
}

/** fetch with the session's token, repeated once with a fresh one after a 401. */
export async function signedFetch(input: Request | string, init?: RequestInit): Promise<Response> {
  const request = new Request(input, init);
  const token = await session.token();
  const ask = async (with_: string | undefined) => {
    try {
      return await fetch(prepared(request.clone(), with_));
    } catch (error) {
      if (request.signal.aborted) throw error;
      throw offline();
    }
  };
  let response = await ask(token);
  if (response.status === 401 && token) {
    const fresh = await session.refresh(token);
    if (fresh) response = await ask(fresh);
  }
  if (request.method !== "GET" && response.ok) heardOf(Number(response.headers.get("Cloudbot-Position")));
  return response;
}

export const api = createClient<paths>({
  baseUrl: globalThis.location?.origin ?? "",
  fetch: (request) => signedFetch(request),
});

/** Unwraps a call of `api`: its data, or a thrown ApiError. */
export async function call<T>(answer: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, response } = await answer;
  if (!response.ok) throw await refusalOf(response, (await answer).error);
  return data as T;
}

// openapi-fetch has read the body already; what it read is the problem itself.
async function refusalOf(response: Response, body: unknown): Promise<ApiError> {
  const headers = new Headers(response.headers);
  return refusal(
    new Response(typeof body === "string" ? body : JSON.stringify(body ?? {}), { status: response.status, headers }),
  );
}

/** The header that makes sending a command twice do it once. */
export const idempotencyKey = () => ({ "Idempotency-Key": newID() });
