// The chat with a machine's agent. The connection is the workspace's, so that it outlives the panel.
import { useSyncExternalStore } from "react";
import { Banner, Button, buttonClass } from "@/ui";
import type { State } from "@/bridge/reconnect";
import { Composer } from "./composer";
import type { ChatConnection, Snapshot } from "./connection";
import { Log } from "./log";
import { Prompts } from "./prompts";
import { Sessions } from "./sessions";
import { linkWords } from "./words";

/** useChat reads a connection's state and draws anew when it changes. */
export function useChat(connection: ChatConnection): Snapshot {
  return useSyncExternalStore(connection.subscribe, connection.snapshot);
}

/** ChatPanel fills the box that it is in. */
export function ChatPanel({ connection }: { connection: ChatConnection }) {
  const { link, chat, everOpen } = useChat(connection);
  const open = link.at === "open";
  return (
    <section aria-label="Chat" className="flex h-full min-h-0 min-w-0 flex-col bg-panel text-ink">
      <h2 className="sr-only">Chat</h2>
      <Sessions connection={connection} chat={chat} open={open} />
      <Connection link={link} everOpen={everOpen} onRetry={() => connection.retryNow()} />
      <Log key={`log ${chat.current}`} connection={connection} chat={chat} open={open} />
      <Prompts connection={connection} chat={chat} open={open} />
      <Composer key={`composer ${chat.current}`} connection={connection} session={chat.current} running={chat.runs.length > 0} />
    </section>
  );
}

function Connection({ link, everOpen, onRetry }: { link: State; everOpen: boolean; onRetry: () => void }) {
  const words = linkWords(link, everOpen);
  if (words === undefined) return null;
  return <div className="px-3 pt-2 sm:px-5"><Banner tone={link.at === "ended" ? "bad" : link.at === "waiting" ? "warn" : "info"} action={<Remedy link={link} onRetry={onRetry} />}>{words}</Banner></div>;
}

/** Remedy is the one thing that can be done about it. */
function Remedy({ link, onRetry }: { link: State; onRetry: () => void }) {
  const retry = link.at === "waiting" || (link.at === "ended" && link.action === "retry");
  if (retry) return <Button size="small" onClick={onRetry}>Try now</Button>;
  if (link.at !== "ended") return null;
  // A fresh page: the one that says log in, or the one with the machines that are there.
  return <a href={import.meta.env.BASE_URL} className={buttonClass("plain", "small")}>{link.action === "sign_in" ? "Log in" : "To your machines"}</a>;
}
