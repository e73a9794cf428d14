// Files that the server makes for the user.
import { refusal, signedFetch } from "./client";

/** Fetches a file and lets the browser save it. Fails with an ApiError, or another error if the connection breaks. */
export async function download(path: string, name: string): Promise<void> {
  const response = await signedFetch(path);
  if (!response.ok) throw await refusal(response);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
