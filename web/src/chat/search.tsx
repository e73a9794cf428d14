// The search in the messages of the open chat.
import { useEffect, useRef, useState, type KeyboardEvent, type RefObject } from "react";
import { Button, IconButton } from "@/ui";
import { ChevronIcon, CloseIcon } from "@/ui/icons";
import type { ChatConnection } from "./connection";
import { found, highlight, scrollTo } from "./find";
import { limits } from "./frames";
import type { ChatState } from "./state";

type Props = {
  open: boolean;
  onClose: () => void;
  connection: ChatConnection;
  chat: ChatState;
  connected: boolean;
  /** Holds the messages. */
  panel: RefObject<HTMLElement | null>;
  /** Has the message drawn. */
  onShow: (message: string | undefined) => void;
  /** The message that was drawn because of it. */
  shown: string | undefined;
};

const mostPages = 10; // that one press loads
const room = 100; // messages: beyond the limit, loading earlier ones hides the newest

export function Search(props: Props) {
  return props.open ? <Bar {...props} /> : null;
}

function Bar({ onClose, connection, chat, connected, panel, onShow, shown }: Props) {
  const [query, setQuery] = useState("");
  const [at, setAt] = useState<string>(); // the match that the user went to
  const [loading, setLoading] = useState(false);
  const [problem, setProblem] = useState("");
  const field = useRef<HTMLInputElement>(null);
  const hits = found(chat.messages, query);
  const place = at === undefined ? -1 : hits.indexOf(at);
  const current = hits[place] ?? hits.at(-1);
  const full = chat.later || chat.messages.length > limits.messages - room;

  useEffect(() => field.current?.focus(), []);
  useEffect(() => onShow(current), [current, onShow]);
  useEffect(() => {
    const log = panel.current?.querySelector('[role="log"]');
    return log ? highlight(log, query, shown) : undefined;
  }); // what is shown may change at each drawing
  useEffect(() => {
    const log = panel.current?.querySelector('[role="log"]');
    if (log && shown !== undefined) scrollTo(log, query, shown);
  }, [panel, query, shown]);

  const go = (step: 1 | -1) => {
    if (hits.length === 0) return;
    const from = current === undefined ? -1 : hits.indexOf(current);
    const next = hits[(from + step + hits.length) % hits.length];
    const log = panel.current?.querySelector('[role="log"]');
    if (log && next !== undefined && next === shown) scrollTo(log, query, next);
    setAt(next);
  };
  const key = (e: KeyboardEvent) => {
    if (e.nativeEvent.isComposing || e.keyCode === 229) return;
    if (e.key === "Escape") {
      e.preventDefault();
      onClose();
    } else if (e.key === "Enter" && e.target === field.current) {
      e.preventDefault();
      go(e.shiftKey ? 1 : -1); // the newest is found first
    }
  };
  /** Loads earlier messages until one of them matches. */
  const earlier = async () => {
    setLoading(true);
    setProblem("");
    const { current: session } = connection.snapshot().chat;
    const before = found(connection.snapshot().chat.messages, query).length;
    try {
      for (let pages = 0; pages < mostPages; pages++) {
        const { earlier: more, messages, current: now } = connection.snapshot().chat;
        if (more === undefined || now !== session || messages.length > limits.messages - room) break;
        await connection.earlier();
        const hit = found(connection.snapshot().chat.messages, query);
        if (hit.length > before) {
          setAt(hit[hit.length - before - 1]);
          break;
        }
      }
    } catch {
      setProblem("Earlier messages could not be loaded. Try again.");
    }
    setLoading(false);
    field.current?.focus();
  };
  const count =
    query.trim() === ""
      ? ""
      : hits.length === 0
        ? "No matches"
        : `${current === undefined ? 0 : hits.indexOf(current) + 1} of ${hits.length}`;

  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- Escape closes it, whatever has the focus
    <div role="search" aria-label="This chat" onKeyDown={key} className="border-b border-line px-2 py-1.5">
      <div className="flex flex-wrap items-center gap-1">
        <input
          ref={field}
          type="search"
          value={query}
          maxLength={200}
          onChange={(e) => {
            setQuery(e.target.value);
            setAt(undefined);
          }}
          aria-label="Search in this chat"
          placeholder="Search in this chat"
          autoComplete="off"
          className="min-h-9 min-w-0 flex-1 basis-24 rounded-md border border-outline bg-panel px-2 text-base sm:text-sm"
        />
        <span role="status" className="min-w-16 text-center text-xs whitespace-nowrap text-muted tabular-nums">
          {count}
        </span>
        <IconButton label="Previous match" disabled={hits.length === 0} onClick={() => go(-1)}>
          <ChevronIcon className="size-5 rotate-180" />
        </IconButton>
        <IconButton label="Next match" disabled={hits.length === 0} onClick={() => go(1)}>
          <ChevronIcon className="size-5" />
        </IconButton>
        <IconButton label="Close the search" onClick={onClose}>
          <CloseIcon />
        </IconButton>
      </div>
      {problem && (
        <p role="alert" className="mt-1 text-xs text-bad">
          {problem}
        </p>
      )}
      {query.trim() !== "" && chat.earlier !== undefined && (
        <p className="mt-1 flex flex-wrap items-center gap-2 text-xs text-muted">
          {full ? (
            "Only the newest 1,000 messages can be searched here. To search all, export the chat."
          ) : (
            <>
              Earlier messages are not loaded.
              <Button size="small" busy={loading} disabled={!connected} onClick={() => void earlier()}>
                Search earlier messages
              </Button>
            </>
          )}
        </p>
      )}
    </div>
  );
}
