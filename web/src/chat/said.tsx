// One message of a chat. It needs no connection, so that a saved chat can be shown.
import { memo, type ReactNode } from "react";
import { Banner, Button, toast } from "@/ui";
import { useCopy } from "@/ui/copy";
import { CheckIcon, CopyIcon, RefreshIcon } from "@/ui/icons";
import { Answer } from "./answer";
import type { Message } from "./frames";
import { Pictures } from "./pictures";
import { Files } from "./sent";
import { AddKey } from "./welcome";
import { Clock } from "./when";

/** Reports whether a message continues the answer before it: the machine stores one message for each use of tools. */
export const continues = (before: Message | undefined, m: Message) =>
  before?.role === "assistant" && m.role === "assistant" && before.run === m.run;

export type SaidProps = {
  message: Message;
  continues: boolean;
  /** The text of the whole answer that ends with this message; undefined: it goes on, or this is no answer. */
  answer?: string | undefined;
  keyless: boolean;
  /** Sends the question of this message again; undefined: that is not possible. */
  onRetry?: (() => void) | undefined;
};

export const Said = memo(
  function Said({ message: m, continues: more, answer, keyless, onRetry }: SaidProps) {
    switch (m.role) {
      case "user":
        return (
          <Mine
            id={m.id}
            at={m.at}
            below={
              <>
                <Files files={m.files} message={m.run} />
                <Pictures pictures={m.pictures} />
              </>
            }
          >
            {m.text}
          </Mine>
        );
      case "note": {
        const failed = m.id.startsWith("error-");
        return (
          <div data-message={m.id} className="flex flex-col gap-1">
            <Banner
              tone={failed ? "bad" : "info"}
              title={failed && keyless && "Add a key so that the agent can think"}
              action={
                <>
                  {failed && keyless && <AddKey />}
                  {failed && onRetry && <Retry onRetry={onRetry} />}
                </>
              }
            >
              {m.text}
            </Banner>
            <Clock at={m.at} />
          </div>
        );
      }
      case "assistant":
        return (
          <article data-message={m.id} aria-label="The agent" className={`group min-w-0 ${more ? "-mt-3" : ""}`}>
            <Answer text={m.text} tools={m.tools} />
            <Pictures pictures={m.pictures} />
            {m.stopped && (
              <div className="mt-1 flex flex-wrap items-center gap-x-3 text-xs text-muted">
                {m.interrupted ? "Interrupted: this answer is not complete." : "This answer was stopped."}
                {m.interrupted && onRetry && <Retry onRetry={onRetry} />}
              </div>
            )}
            {answer !== undefined && (
              <div className="mt-1 flex min-h-8 items-center gap-2">
                <Clock at={m.at} />
                {answer !== "" && <Copy text={answer} />}
              </div>
            )}
          </article>
        );
    }
  },
  (a, b) =>
    a.message === b.message &&
    a.continues === b.continues &&
    a.answer === b.answer &&
    a.keyless === b.keyless &&
    (a.onRetry === undefined) === (b.onRetry === undefined),
);

const Retry = ({ onRetry }: { onRetry: () => void }) => (
  <Button size="small" onClick={onRetry} aria-label="Retry: send the same message again">
    <RefreshIcon className="size-4" /> Retry
  </Button>
);

/** Copies an answer as Markdown. With a mouse it appears over the answer; by touch and keyboard it is always there. */
function Copy({ text }: { text: string }) {
  const { outcome, copy } = useCopy(text);
  const done = outcome === "copied";
  const press = async () => {
    if (!(await copy()))
      toast({
        tone: "warn",
        title: "The browser does not allow copying",
        detail: "Select the text and copy it by hand.",
      });
  };
  return (
    <Button
      size="small"
      variant="quiet"
      aria-label="Copy this answer"
      onClick={() => void press()}
      className={`text-xs text-muted focus-visible:opacity-100 pointer-fine:opacity-0 pointer-fine:group-focus-within:opacity-100 pointer-fine:group-hover:opacity-100 ${done ? "pointer-fine:opacity-100!" : ""}`}
    >
      {done ? <CheckIcon className="size-4" /> : <CopyIcon className="size-4" />}
      <span aria-live="polite">{done ? "Copied" : "Copy"}</span>
    </Button>
  );
}

export function Mine({
  children,
  id,
  at,
  below,
}: {
  children: string;
  id?: string;
  at?: number | undefined;
  below?: ReactNode;
}) {
  return (
    <article aria-label="You" data-message={id} className="flex max-w-[88%] flex-col items-end gap-1 self-end">
      {children && (
        <p className="rounded-2xl rounded-br-md bg-accent-soft px-3.5 py-2 break-words whitespace-pre-wrap text-ink [overflow-wrap:anywhere] forced-colors:border">
          {children}
        </p>
      )}
      {below}
      <Clock at={at} />
    </article>
  );
}
