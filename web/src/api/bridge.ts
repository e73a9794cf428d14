import { api, call } from "./client";

/** Where a bridge's WebSocket is opened, and the subprotocols that let it in: good once, for 30 seconds. */
export type BridgeAddress = { url: string; protocols: string[] };

/** Gets a ticket for an instance's screen or agent. Throws an ApiError. */
export async function openBridge(id: string, kind: "vnc" | "cloudbot", mode: "control" | "view", signal?: AbortSignal): Promise<BridgeAddress> {
  const { ticket } = await call(
    api.POST("/api/instances/{id}/tickets", { params: { path: { id } }, body: { kind, mode }, ...(signal ? { signal } : {}) }),
  );
  return { url: `${location.origin.replace(/^http/, "ws")}/api/instances/${id}/${kind}`, protocols: ["binary", `ticket.${ticket}`] };
}
