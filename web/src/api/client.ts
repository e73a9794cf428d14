// Calls to the server. Every call carries the access token, is repeated once after a token refresh, and fails with an
// ApiError whose message is a sentence for the user.
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

/** The server refused a request, or cannot be reached (status 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    /** Stable, for programs; "offline" with status 0. */
    readonly code: string,
    /** A sentence for the user. */
    readonly detail: string,
    /** Seconds to wait before retrying, if the server named them. */
    readonly retryAfter?: number,
    readonly requestId?: string,
    /** The request field that the error is about. */
    readonly field?: string,
  ) {
    super(detail);
    this.name = "ApiError";
  }
}

/** Returns a sentence for the user about any failure. */
export function sentence(error: unknown): string {
  return error instanceof ApiError
    ? error.detail
    : "Something went wrong on this page. Reload it; your desktops are not affected.";
}

const offline = () =>
  new ApiError(0, "offline", "The server cannot be reached. Check your connection, then try again.");

/** Makes an ApiError of a response that is not 2xx. */
export async function refusal(response: Response): Promise<ApiError> {
  let body: Partial<Schemas["Problem"]> = {};
  try {
    body = (await response.clone().json()) as Partial<Schemas["Problem"]>;
  } catch {
    // a proxy's page: only the status is usable
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

// The highest position that this tab has learned from its own commands or from events. Queries wait for it, so that a
// user who changed something, or was notified of a change, sees the change. Each read model catches up at its own pace.
let known = 0;

/** Makes later queries wait for this position. */
export function heardOf(position: number) {
  if (position > known) known = position;
}

/** Forgets the position: the server was restored from a backup, and positions known here may never be reached. */
export function forgetHeard() {
  known = 0;
}

function prepared(request: Request, token: string | undefined): Request {
  const r = new Request(request);
  if (token) r.headers.set("Authorization", `Bearer ${token}`);
  if (request.method === "GET" && known > 0) r.headers.set("Cloudbot-Wait-For", String(known));
  return r;
}

/** fetch with the session's token, repeated once with a new token after a 401. */
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

/** Returns the data of a call of `api`, or throws an ApiError. */
export async function call<T>(answer: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, response } = await answer;
  if (!response.ok) throw await refusalOf(response, (await answer).error);
  return data as T;
}

// openapi-fetch has already read the body; the parsed body is the problem document.
async function refusalOf(response: Response, body: unknown): Promise<ApiError> {
  const headers = new Headers(response.headers);
  return refusal(
    new Response(typeof body === "string" ? body : JSON.stringify(body ?? {}), { status: response.status, headers }),
  );
}

/** The header that makes a repeated command take effect only once. */
export const idempotencyKey = () => ({ "Idempotency-Key": newID() });
