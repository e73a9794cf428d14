// The chat with a machine's agent. The workspace owns the connection, so it outlives the panel.
import { useEffect, useMemo, useRef, useState, useSyncExternalStore, type ReactNode } from "react";
import { Banner, Button, buttonClass } from "@/ui";
import type { State } from "@/bridge/reconnect";
import { dropTarget } from "@/ui/drops";
import { leftAround } from "@/ui/focus";
import { whenOpen } from "@/ui/later";
import { Composer } from "./composer";
import type { ChatConnection, Snapshot } from "./connection";
import { unknown, type Facts, type Suggestion } from "./facts";
import { Log } from "./log";
import { PicturesFrom } from "./pictures";
import { Prompts } from "./prompts";
import { FilesFrom } from "./sent";
import { Sessions } from "./sessions";
import { linkWords } from "./words";

const Search = whenOpen(async () => (await import("./search")).Search);

/** useChat reads a connection's state and redraws when it changes. */
export function useChat(connection: ChatConnection): Snapshot {
  return useSyncExternalStore(connection.subscribe, connection.snapshot);
}

export interface ChatPanelProps {
  connection: ChatConnection;
  /** Called by the button of a connection that ended permanently. Default: go to the dashboard's first page. */
  onEnd?: (action: "sign_in" | "leave") => void;
  /** The desktop's name. */
  name?: string;
  /** What the machine reports of its agent. Default: nothing. */
  facts?: Facts;
  /** A message of the page itself, below the agent's. */
  notice?: ReactNode;
}

/** ChatPanel fills its container. */
export function ChatPanel({ connection, onEnd, name = "", facts = unknown, notice }: ChatPanelProps) {
  const { link, chat, everOpen, sending } = useChat(connection);
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
  const [written, setWritten] = useState(0); // texts put into the message field
  useEffect(() => {
    const f = field.current;
    if (written === 0 || !f) return;
    f.focus();
    f.setSelectionRange(f.value.length, f.value.length);
  }, [written]);
  const [creating, setCreating] = useState(false); // a new chat
  const [searching, setSearching] = useState<string>(); // the session that is searched
  const [foundAt, setFoundAt] = useState<string>(); // id of a message
  const attempt = ({ text, send }: Suggestion) => {
    const draft = connection.outbox.draft(chat.current);
    if (send) {
      try {
        connection.send(text);
        onDone();
        return;
      } catch {
        // The browser could not store it: the user sees it in the field and can send it from there.
      }
    }
    connection.outbox.setDraft(chat.current, draft.trim() === "" ? text : `${draft}\n${text}`);
    setWritten((n) => n + 1);
  };
  const { current: session } = chat;
  const from = useMemo(() => ({ gallery: connection.gallery, session }), [connection, session]);
  return (
    <section
      ref={panel}
      aria-label="Chat"
      {...dropTarget}
      className="relative flex h-full min-h-0 min-w-0 flex-col bg-panel text-ink"
    >
      <h2 className="sr-only">Chat</h2>
      <Sessions
        connection={connection}
        chat={chat}
        facts={facts}
        open={open}
        creating={creating}
        onCreating={setCreating}
        onNew={onDone}
        name={name}
        onSearch={() => setSearching(chat.current)}
      />
      <Connection link={link} everOpen={everOpen} onRetry={() => connection.retryNow()} onEnd={onEnd} />
      <Search
        key={`search ${chat.current}`}
        open={searching === chat.current}
        onClose={() => {
          setSearching(undefined);
          field.current?.focus();
        }}
        connection={connection}
        chat={chat}
        connected={open}
        panel={panel}
        onShow={setFoundAt}
        shown={foundAt}
      />
      <PicturesFrom value={from}>
        <FilesFrom value={connection.uploads}>
          <Log
            key={`log ${chat.current}`}
            connection={connection}
            chat={chat}
            facts={facts}
            open={open}
            sending={sending}
            onTry={attempt}
            reveal={foundAt}
            notice={notice}
            onRetry={(text) => attempt({ label: text, text, send: true })}
          />
        </FilesFrom>
      </PicturesFrom>
      <Prompts connection={connection} chat={chat} open={open} onDone={onDone} />
      <Composer
        key={`composer ${chat.current} ${written}`}
        connection={connection}
        session={chat.current}
        running={chat.runs.length > 0}
        creating={creating}
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
