import { api, call, refusal, signedFetch, type ApiError } from "./client";

/** The address of a bridge's WebSocket and the subprotocols that authorize it, valid once for 30 seconds. */
export type BridgeAddress = {
  url: string;
  protocols: string[];
  /** Asks why a socket that never opened was refused, which the browser hides. Rejects if there is no answer. */
  whyNot?: (gone: AbortSignal) => Promise<ApiError>;
};

// After a line went dead, the browser may reuse a connection of it, where no answer ever comes. The next try uses
// another connection.
const answerWithin = 8_000; // ms

/** Gets a ticket for an instance's screen or agent. Throws an ApiError, or the reason of the abort. */
export async function openBridge(
  id: string,
  kind: "vnc" | "cloudbot",
  mode: "control" | "view",
  aborted: AbortSignal,
): Promise<BridgeAddress> {
  const signal = AbortSignal.any([aborted, AbortSignal.timeout(answerWithin)]);
  const { ticket } = await call(
    api.POST("/api/instances/{id}/tickets", { params: { path: { id } }, body: { kind, mode }, signal }),
  );
  const path = `/api/instances/${id}/${kind}`;
  return {
    url: location.origin.replace(/^http/, "ws") + path,
    protocols: ["binary", `ticket.${ticket}`],
    whyNot: async (gone) =>
      refusal(
        await signedFetch(location.origin + path, {
          headers: { "Cloudbot-Origin": location.origin, "Cloudbot-Ticket": ticket },
          signal: AbortSignal.any([gone, AbortSignal.timeout(answerWithin)]),
        }),
      ),
  };
}
