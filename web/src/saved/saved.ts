// The chats of a desktop as the server keeps them for the time when its agent cannot answer.
import { queryOptions } from "@tanstack/react-query";
import { api, ApiError, call, type Instance } from "@/api/client";
import type { components } from "@/api/schema";
import type { Message } from "@/chat/frames";
import { transcript } from "@/chat/transcript";

export type SavedChats = components["schemas"]["SavedChats"];
export type SavedSession = components["schemas"]["SavedSession"];

/** null: no chats are saved. */
export const savedQuery = (i: Instance) =>
  queryOptions({
    queryKey: ["saved-chats", i.id, i.updated_at], // each change of the instance may have brought a newer copy
    queryFn: async ({ signal }): Promise<SavedChats | null> => {
      try {
        return await call(api.GET("/api/instances/{id}/chat", { params: { path: { id: i.id } }, signal }));
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return null;
        throw error;
      }
    },
    staleTime: 0,
  });

const isMain = (s: SavedSession) => s.key.endsWith(":main");

export const titleOf = (s: SavedSession) => s.title || (isMain(s) ? "Main" : "New chat");

/** Returns the chat with the key; without one, the main chat. */
export const chosen = (chats: SavedChats, key: string | undefined): SavedSession | undefined =>
  chats.sessions.find((s) => s.key === key) ?? chats.sessions.find(isMain) ?? chats.sessions[0];

/** Returns the messages of a saved chat. An answer that was under way is the last one, marked as not complete. */
export function messagesOf(s: SavedSession): Message[] {
  const messages = transcript(s.messages, "saved-");
  const { running } = s;
  if (!running || running.text === "") return messages;
  const before = messages.filter((m) => m.role === "assistant" && m.run === running.runId).map((m) => m.text);
  const told = before.join("");
  const text = told !== "" && running.text.startsWith(told) ? running.text.slice(told.length) : running.text;
  const last: Message = {
    id: "saved-running",
    role: "assistant",
    text,
    tools: [],
    at: running.startedAt,
    run: running.runId,
    stopped: true,
    interrupted: true,
  };
  return [...messages, last];
}

/** Says when the chats were saved and what the user can do. */
export function savedWords(at: string, i: Pick<Instance, "status">, now = new Date()): string {
  const date = new Date(at);
  const today = date.toDateString() === now.toDateString();
  const when = new Intl.DateTimeFormat(undefined, {
    ...(!today && { dateStyle: "medium" }),
    timeStyle: "short",
  }).format(date);
  switch (i.status) {
    case "stopped":
      return `Saved ${when}, before the desktop stopped. Start the desktop to continue.`;
    case "stopping":
      return `Saved ${when}. The desktop is stopping.`;
    case "failed":
      return `Saved ${when}. The desktop's machine has been removed, so this chat can't continue.`;
    case "running":
      return `Saved ${when}. The desktop is not responding.`;
    default:
      return `Saved ${when}. The desktop is starting; then you can continue.`;
  }
}
