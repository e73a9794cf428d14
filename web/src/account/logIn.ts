// Log-in. It also works during a deploy, when a replica of the previous version answers.
import { api, ApiError, call } from "@/api/client";
import { session } from "@/api/session";

/** Exchanges e-mail address and password for tokens. */
export async function logIn(body: { email: string; password: string }) {
  const device = session.deviceToken();
  const post = (all: typeof body & { device_token?: string }) => call(api.POST("/api/auth/login", { body: all }));
  if (!device) return post(body);
  try {
    return await post({ ...body, device_token: device });
  } catch (error) {
    // A replica of the previous version rejects a field that it does not know.
    if (error instanceof ApiError && error.code === "unknown_field") return post(body);
    throw error;
  }
}
