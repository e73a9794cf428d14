// The open session: its messages, the answers under way and the messages that wait to be sent.
import type { ReactNode } from "react";
import { Banner, Button, Spinner } from "@/ui";
import { Answer, Elapsed } from "./answer";
import type { ChatConnection } from "./connection";
import { needsKey, type Facts, type Suggestion } from "./facts";
import { Messages } from "./messages";
import type { ChatState, Run } from "./state";
import { Waiting } from "./waiting";
import { Welcome } from "./welcome";
import { phaseWords } from "./words";

type LogProps = {
  connection: ChatConnection;
  chat: ChatState;
  facts: Facts;
  open: boolean;
  sending: ReadonlyMap<string, number>; // parts sent of messages with files, by key
  onTry: (s: Suggestion) => void;
  onRetry: (text: string) => void;
  reveal: string | undefined;
  notice: ReactNode;
};

export function Log({ connection, chat, facts, open, sending, onTry, onRetry, reveal, notice }: LogProps) {
  const asks = [...chat.approvals, ...chat.inquiries].some((p) => !p.over && p.session === chat.current);
  const running = chat.runs.length > 0;
  return (
    <Messages
      messages={chat.messages}
      earlier={chat.earlier === undefined ? undefined : () => connection.earlier()}
      latest={chat.later ? () => connection.reload() : undefined}
      open={open}
      written={chat.outbox.at(-1)?.at}
      keyless={needsKey(facts)}
      onRetry={running || !open ? undefined : onRetry}
      reveal={reveal}
      above={
        <>
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
            <Welcome facts={facts} onTry={onTry} />
          )}
        </>
      }
      below={
        <>
          {chat.later ? (
            <p className="self-center text-sm text-muted">Newer messages are hidden. Jump to latest.</p>
          ) : (
            chat.runs.map((r) => <Running key={r.id} run={r} asks={asks} />)
          )}
          {chat.outbox.map((i) => (
            <Waiting
              key={i.key}
              item={i}
              open={open}
              running={running}
              connection={connection}
              part={sending.get(i.key)}
            />
          ))}
          {notice}
        </>
      }
    />
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
