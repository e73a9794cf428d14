// The month's figures as a file.
import { refusal, signedFetch } from "@/api/client";

/** Downloads a month as CSV and lets the browser save it. Fails with an ApiError. */
export async function downloadCSV(month: string): Promise<void> {
  const response = await signedFetch(`/api/usage.csv?month=${month}`);
  if (!response.ok) throw await refusal(response);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = `cloudbot-usage-${month}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
