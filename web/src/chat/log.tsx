// The messages of the open session, newest last. The log stays at its end unless the reader scrolls away.
import { memo, useCallback, useEffect, useLayoutEffect, useRef, useState, type ReactNode } from "react";
import { Banner, Button, EmptyState, Spinner, toast } from "@/ui";
import { ChatIcon, ChevronIcon } from "@/ui/icons";
import { Answer, Elapsed, Pictures } from "./answer";
import type { ChatConnection } from "./connection";
import type { Message } from "./frames";
import type { Item } from "./outbox";
import type { ChatState, Run } from "./state";
import { phaseWords } from "./words";

const shownAtOnce = 60; // messages drawn; more on request
const nearEnd = 48; // px

export function Log({ connection, chat, open }: { connection: ChatConnection; chat: ChatState; open: boolean }) {
  const [most, setMost] = useState(shownAtOnce);
  const [loading, setLoading] = useState(false);
  const { box, content, atEnd, toEnd, stay } = useEnd(chat.outbox.at(-1)?.at ?? 0);
  const shown = chat.messages.slice(-most);
  const asks = [...chat.approvals, ...chat.inquiries].some((p) => !p.over && p.session === chat.current);
  const hidden = chat.messages.length - shown.length;

  const earlier = async () => {
    stay();
    setMost((n) => n + shownAtOnce);
    if (hidden >= shownAtOnce || chat.earlier === undefined) return;
    setLoading(true);
    try {
      await connection.earlier();
    } catch {
      toast({ title: "Earlier messages could not be loaded.", tone: "bad" });
    } finally {
      setLoading(false);
    }
  };

  const latest = () => {
    if (chat.later) connection.reload();
    toEnd();
  };

  return (
    <div className="relative flex min-h-0 flex-1 flex-col">
      {/* It scrolls, so it must be reachable by keyboard. */}
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div
        ref={box}
        tabIndex={0}
        role="log"
        aria-live="polite"
        aria-label="Messages"
        className="min-h-0 flex-1 overflow-y-auto overscroll-contain [overflow-anchor:none] px-3 py-4 sm:px-5"
      >
        <div ref={content} className="mx-auto flex max-w-3xl flex-col gap-4">
          {(hidden > 0 || chat.earlier !== undefined) && (
            <Button
              variant="quiet"
              size="small"
              busy={loading}
              disabled={hidden === 0 && !open}
              onClick={() => void earlier()}
              className="self-center"
            >
              Show earlier messages
            </Button>
          )}
          {chat.history === "failed" && (
            <Banner
              tone="bad"
              action={
                <Button size="small" onClick={() => connection.reload()}>
                  Try again
                </Button>
              }
            >
              The messages of this chat could not be loaded.
            </Banner>
          )}
          {(chat.history === "loading" || (chat.history === "none" && open)) && (
            <p className="self-center text-sm text-muted">
              <Spinner label="Loading the messages…" />
            </p>
          )}
          {chat.history === "ready" && chat.messages.length + chat.runs.length + chat.outbox.length === 0 && (
            <EmptyState icon={<ChatIcon className="size-8" />} title="No messages yet">
              Ask the agent to do something on this machine. It sees the same desktop as you.
            </EmptyState>
          )}
          {shown.map((m, i) => (
            <Said key={m.id} message={m} continues={continues(shown[i - 1], m)} />
          ))}
          {chat.later ? (
            <p className="self-center text-sm text-muted">Newer messages are hidden. Jump to latest.</p>
          ) : (
            chat.runs.map((r) => <Running key={r.id} run={r} asks={asks} />)
          )}
          {chat.outbox.map((i) => (
            <Waiting key={i.key} item={i} open={open} running={chat.runs.length > 0} connection={connection} />
          ))}
        </div>
      </div>
      {(!atEnd || chat.later) && (
        <Button
          size="small"
          onClick={latest}
          disabled={chat.later && !open}
          className="absolute bottom-3 left-1/2 -translate-x-1/2 rounded-full shadow-md"
        >
          <ChevronIcon className="size-4" /> Jump to latest
        </Button>
      )}
    </div>
  );
}

/** Returns the first visible message of a box, and its distance from the top of the scrolled content. */
function inSight(box: HTMLElement): { message: Element; at: number } | undefined {
  const edge = box.getBoundingClientRect().top;
  const message = [...box.querySelectorAll("article")].find((a) => a.getBoundingClientRect().bottom > edge);
  return message && { message, at: placeOf(message, box) };
}

const placeOf = (message: Element, box: HTMLElement) =>
  message.getBoundingClientRect().top - box.getBoundingClientRect().top + box.scrollTop;

/**
 * useEnd keeps a box scrolled to its end while the reader is there. Otherwise it keeps the visible messages in place,
 * whatever grows above them. written is when the user last sent a message, which scrolls to the end.
 */
function useEnd(written: number) {
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const stuck = useRef(true);
  const height = useRef(0); // of the scrolled content, when the box last settled
  const read = useRef<ReturnType<typeof inSight>>(undefined);
  const lastWritten = useRef(written);
  const [atEnd, setAtEnd] = useState(true);

  const settle = useCallback(() => {
    const b = box.current;
    if (!b || b.clientHeight === 0) return; // hidden
    // The reader may have scrolled up in this frame, before the browser reports it.
    if (stuck.current && b.scrollHeight >= height.current && height.current - b.scrollTop - b.clientHeight >= nearEnd) {
      stuck.current = false;
      setAtEnd(false);
      read.current = inSight(b);
    }
    height.current = b.scrollHeight;
    if (stuck.current) {
      b.scrollTop = b.scrollHeight;
      return;
    }
    if (read.current?.message.isConnected) b.scrollTop += placeOf(read.current.message, b) - read.current.at;
    read.current = inSight(b);
  }, []);
  const stick = () => {
    stuck.current = true;
    height.current = 0;
  };
  useLayoutEffect(() => {
    if (written > lastWritten.current) stick();
    lastWritten.current = Math.max(written, lastWritten.current);
    settle();
  });
  useEffect(() => {
    const b = box.current;
    if (!b || !content.current) return undefined;
    const size = new ResizeObserver(settle);
    size.observe(content.current);
    size.observe(b);
    const scrolled = () => {
      if (b.clientHeight === 0) return;
      height.current = b.scrollHeight;
      const end = b.scrollHeight - b.scrollTop - b.clientHeight < nearEnd;
      stuck.current = end;
      setAtEnd(end);
      read.current = inSight(b);
    };
    b.addEventListener("scroll", scrolled, { passive: true });
    return () => {
      size.disconnect();
      b.removeEventListener("scroll", scrolled);
    };
  }, [settle]);

  const toEnd = () => {
    stick();
    setAtEnd(true);
    settle();
    box.current?.focus({ preventScroll: true });
  };
  /** Keeps the visible messages in place, even at the end. */
  const stay = () => {
    stuck.current = false;
    if (box.current) read.current = inSight(box.current);
  };
  return { box, content, atEnd, toEnd, stay };
}

/** Reports whether a message continues the answer before it: the machine stores one message for each use of tools. */
const continues = (before: Message | undefined, m: Message) =>
  before?.role === "assistant" && m.role === "assistant" && before.run === m.run;

const Said = memo(function Said({ message: m, continues: more }: { message: Message; continues: boolean }) {
  switch (m.role) {
    case "user":
      return (
        <Mine at={m.at} below={<Pictures pictures={m.pictures} />}>
          {m.text}
        </Mine>
      );
    case "note":
      return <Banner tone={m.id.startsWith("error-") ? "bad" : "info"}>{m.text}</Banner>;
    case "assistant":
      return (
        <article aria-label="The agent" className={`min-w-0 ${more ? "-mt-3" : ""}`}>
          <Answer text={m.text} tools={m.tools} />
          <Pictures pictures={m.pictures} />
          {m.stopped && <p className="mt-1 text-xs text-muted">This answer was stopped.</p>}
        </article>
      );
  }
});

function Mine({ children, at, below }: { children: string; at?: number | undefined; below?: ReactNode }) {
  return (
    <article aria-label="You" className="flex max-w-[88%] flex-col items-end gap-1 self-end">
      {children && (
        <p
          title={at === undefined ? undefined : new Date(at).toLocaleString()}
          className="rounded-2xl rounded-br-md bg-accent-soft px-3.5 py-2 break-words whitespace-pre-wrap text-ink [overflow-wrap:anywhere] forced-colors:border"
        >
          {children}
        </p>
      )}
      {below}
    </article>
  );
}

function Running({ run, asks }: { run: Run; asks: boolean }) {
  const words = run.stopping ? "Stopping" : asks ? "Waiting for your answer" : phaseWords(run.phase);
  return (
    // A screen reader skips it while it is busy and reads the whole answer at the end.
    <article aria-label="The agent is answering" aria-busy="true" className="min-w-0">
      <Answer text={run.text} tools={run.tools} />
      {(run.text === "" || run.stopping || asks) && (
        <p className="mt-1 flex items-center gap-2 text-sm text-muted">
          <Spinner />
          <span>{words}…</span>
          <Elapsed since={run.startedAt} />
        </p>
      )}
    </article>
  );
}

function Waiting({
  item,
  open,
  running,
  connection,
}: {
  item: Item;
  open: boolean;
  running: boolean;
  connection: ChatConnection;
}) {
  return (
    <Mine at={item.at} below={<Delivery item={item} open={open} running={running} connection={connection} />}>
      {item.text}
    </Mine>
  );
}

function Delivery({
  item,
  open,
  running,
  connection,
}: {
  item: Item;
  open: boolean;
  running: boolean;
  connection: ChatConnection;
}) {
  if (item.state === "queued" || item.state === "sent") {
    const why = !open
      ? "Saved here until the agent can be reached"
      : running
        ? "Waiting for the previous answer"
        : item.state === "sent"
          ? "Sending…"
          : "Waiting to be sent";
    return <p className="text-xs text-muted">{why}</p>;
  }
  return (
    <div role="alert" className="flex max-w-sm flex-col items-end gap-1.5 text-right text-xs">
      <p className="text-bad">
        {item.state === "unconfirmed" ? (
          <>
            <strong>Delivery unconfirmed.</strong> The agent may or may not have received it. You can retry safely: the
            message counts only once.
          </>
        ) : (
          <>
            <strong>Not accepted.</strong> {item.reason}
          </>
        )}
      </p>
      <span className="flex gap-2">
        <Button size="small" onClick={() => connection.resend(item.key)}>
          Retry
        </Button>
        <Button size="small" variant="quiet" onClick={() => connection.discard(item.key)}>
          Discard
        </Button>
      </span>
    </div>
  );
}
