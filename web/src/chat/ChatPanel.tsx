// The chat with a machine's agent. The workspace owns the connection, so it outlives the panel.
import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import { Banner, Button, buttonClass } from "@/ui";
import type { State } from "@/bridge/reconnect";
import { leftAround } from "@/ui/focus";
import { Composer } from "./composer";
import type { ChatConnection, Snapshot } from "./connection";
import { Log } from "./log";
import { Prompts } from "./prompts";
import { Sessions } from "./sessions";
import { linkWords } from "./words";

/** useChat reads a connection's state and redraws when it changes. */
export function useChat(connection: ChatConnection): Snapshot {
  return useSyncExternalStore(connection.subscribe, connection.snapshot);
}

export interface ChatPanelProps {
  connection: ChatConnection;
  /** Called by the button of a connection that ended permanently. Default: go to the dashboard's first page. */
  onEnd?: (action: "sign_in" | "leave") => void;
}

/** ChatPanel fills its container. */
export function ChatPanel({ connection, onEnd }: ChatPanelProps) {
  const { link, chat, everOpen } = useChat(connection);
  const open = link.at === "open";
  const field = useRef<HTMLTextAreaElement>(null);
  // The pressed button disappears with the prompt that it answered. The focus then moves to the text field, unless the
  // user has moved it elsewhere.
  const [done, setDone] = useState(0);
  const panel = useRef<HTMLElement>(null);
  useEffect(() => {
    if (done > 0 && (leftAround(panel.current) || panel.current?.contains(document.activeElement)))
      field.current?.focus();
  }, [done]);
  const onDone = () => setDone((n) => n + 1);
  return (
    <section ref={panel} aria-label="Chat" className="flex h-full min-h-0 min-w-0 flex-col bg-panel text-ink">
      <h2 className="sr-only">Chat</h2>
      <Sessions connection={connection} chat={chat} open={open} onNew={onDone} />
      <Connection link={link} everOpen={everOpen} onRetry={() => connection.retryNow()} onEnd={onEnd} />
      <Log key={`log ${chat.current}`} connection={connection} chat={chat} open={open} />
      <Prompts connection={connection} chat={chat} open={open} onDone={onDone} />
      <Composer
        key={`composer ${chat.current}`}
        connection={connection}
        session={chat.current}
        running={chat.runs.length > 0}
        field={field}
      />
    </section>
  );
}

type RemedyProps = { link: State; onRetry: () => void; onEnd: ChatPanelProps["onEnd"] | undefined };

function Connection({ everOpen, ...remedy }: RemedyProps & { everOpen: boolean }) {
  const { link } = remedy;
  const words = linkWords(link, everOpen);
  if (words === undefined) return null;
  return (
    <div className="px-3 pt-2 sm:px-5">
      <Banner
        tone={link.at === "ended" ? "bad" : link.at === "waiting" ? "warn" : "info"}
        action={<Remedy {...remedy} />}
      >
        {words}
      </Banner>
    </div>
  );
}

/** Remedy is the one thing that the user can do about a lost connection. */
function Remedy({ link, onRetry, onEnd }: RemedyProps) {
  if (link.at === "waiting")
    return (
      <Button size="small" onClick={onRetry}>
        Try now
      </Button>
    );
  if (link.at !== "ended") return null;
  const { action } = link;
  if (action === "retry")
    return (
      <Button size="small" onClick={onRetry}>
        Try again
      </Button>
    );
  const words = action === "sign_in" ? "Log in" : "Go to your desktops";
  if (onEnd)
    return (
      <Button size="small" onClick={() => onEnd(action)}>
        {words}
      </Button>
    );
  return (
    <a href={import.meta.env.BASE_URL} className={buttonClass("plain", "small")}>
      {words}
    </a>
  );
}
