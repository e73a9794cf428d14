// A message with files goes over a connection of its own: the chat's other requests, such as Stop, do not wait behind it,
// and the chat stays connected if it is too slow.
import { ApiError } from "@/api/client";
import type { BridgeAddress } from "@/api/bridge";
import type { Attached } from "./files";
import { parseFrame, rec, type Failure } from "./frames";
import { LostError, RequestError } from "./requests";
import { dataURL } from "./tray";

const look = 250; // ms between two looks at the progress
const stalled = 60_000; // ms without progress
const laterMs = 5_000;

export interface Upload {
  open: (signal: AbortSignal) => Promise<BridgeAddress>;
  params: object; // of chat.send, without the files
  files: readonly Attached[];
  onProgress: (part: number) => void; // 0 to 1
  signal: AbortSignal;
}

/** upload resolves with the agent's answer; rejects as Requests.request does. */
export async function upload({ open, params, files, onProgress, signal }: Upload): Promise<unknown> {
  const attachments = await Promise.all(files.map(encoded)).catch(() => {
    throw refused(
      "A file of this message can't be read. It was moved or changed. Discard the message and send it again.",
    );
  });
  let address: BridgeAddress;
  try {
    address = await open(signal);
  } catch (error) {
    if (error instanceof ApiError && [401, 403, 404].includes(error.status)) throw new LostError();
    throw later("The agent can't be reached.");
  }
  if (signal.aborted) throw new LostError();
  const frame = JSON.stringify({ type: "req", id: "file", method: "chat.send", params: { ...params, attachments } });
  return carry(new WebSocket(address.url, address.protocols), frame, onProgress, signal);
}

async function encoded(f: Attached) {
  const url = await dataURL(f.blob);
  return {
    type: f.type.startsWith("image/") ? "image" : "file",
    mimeType: f.type || "application/octet-stream",
    fileName: f.name,
    origin: f.origin,
    content: url.slice(url.indexOf(",") + 1),
  };
}

function carry(socket: WebSocket, frame: string, onProgress: Upload["onProgress"], signal: AbortSignal) {
  return new Promise<unknown>((resolve, reject) => {
    let sent = false;
    let left = frame.length;
    let moved = Date.now();
    const end = (settle: () => void) => {
      clearInterval(watch);
      settle(); // the first outcome counts
      socket.close();
    };
    const watch = setInterval(() => {
      if (socket.bufferedAmount !== left) {
        left = socket.bufferedAmount;
        moved = Date.now();
        if (sent) onProgress(Math.max(0, 1 - left / frame.length));
      } else if (Date.now() - moved > stalled) end(() => reject(new LostError()));
    }, look);
    signal.addEventListener("abort", () => end(() => reject(new LostError())));
    socket.addEventListener("message", (e: MessageEvent<unknown>) => {
      const f = parseFrame(e.data);
      if (f?.type !== "res") return;
      if (!sent && f.ok && rec(f.payload).type === "hello-ok") {
        sent = true;
        moved = Date.now();
        socket.send(frame);
      } else if (f.id === "file") end(() => (f.ok ? resolve(f.payload) : reject(new RequestError(f.error))));
    });
    socket.addEventListener("close", (e) =>
      end(() => reject(sent ? reasonOf(e.code) : later("The agent can't be reached."))),
    );
  });
}

function reasonOf(code: number): Error {
  switch (code) {
    case 1008:
      return refused(
        "The connection is too slow for these files: they must arrive at 64 KB a second. Send smaller ones.",
      );
    case 1009:
      return refused("The files are larger than the agent accepts. Send fewer or smaller ones.");
    case 1013:
      return later("Too many large messages are on their way.");
  }
  return new LostError();
}

const failure = (message: string, retryAfterMs?: number): Failure => ({
  code: "CLOUDBOT_UPLOAD",
  message,
  retryable: retryAfterMs !== undefined,
  retryAfterMs,
});
const refused = (message: string) => new RequestError(failure(message));
const later = (message: string) => new RequestError(failure(message, laterMs));
