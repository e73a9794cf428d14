// A list of messages, newest last, in a box that stays at its end unless the reader scrolls away. It needs no connection.
import { Fragment, useState, type ReactNode } from "react";
import { Button, toast } from "@/ui";
import { ChevronIcon } from "@/ui/icons";
import { useEnd } from "./end";
import type { Message } from "./frames";
import { continues, Said } from "./said";
import { Day } from "./when";

const before = 5; // messages drawn above a revealed one
const shownAtOnce = 60; // messages drawn; more on request

export type MessagesProps = {
  messages: Message[];
  /** Loads messages before these; undefined: there are none, as far as is known. */
  earlier?: (() => Promise<void>) | undefined;
  /** Loads the newest messages, which are hidden; undefined: none are. */
  latest?: (() => void) | undefined;
  /** Whether earlier and latest can work at present; default yes. */
  open?: boolean;
  /** When the user last sent a message, which scrolls to the end. */
  written?: number | undefined;
  /** No API key is configured: a failed answer offers to add one. */
  keyless?: boolean;
  /** Sends a question again; undefined: that is not possible at present. */
  onRetry?: ((text: string) => void) | undefined;
  /** The id of a message that is drawn, however early it is. */
  reveal?: string | undefined;
  above?: ReactNode;
  below?: ReactNode;
};

/** Returns the text of the answer that ends with the nth message; undefined: none does. */
function answerAt(messages: Message[], n: number): string | undefined {
  const m = messages[n]!;
  const next = messages[n + 1];
  if (m.role !== "assistant" || (next && continues(m, next))) return undefined;
  let first = n;
  while (first > 0 && continues(messages[first - 1], messages[first]!)) first--;
  return messages
    .slice(first, n + 1)
    .map((x) => x.text.trim())
    .filter(Boolean)
    .join("\n\n");
}

/** Returns the question of an answer that failed, if it can be sent again: pictures and files cannot. */
function questionOf(m: Message, messages: Message[]): string | undefined {
  if (m.run === undefined || m.role === "user") return undefined;
  const question = messages.findLast((x) => x.role === "user" && x.run === m.run);
  return question && !question.pictures && !question.files && question.text !== "" ? question.text : undefined;
}

export function Messages(props: MessagesProps) {
  const { messages, latest, open = true, written = 0, keyless = false, onRetry, above, below } = props;
  const [most, setMost] = useState(shownAtOnce);
  const [loading, setLoading] = useState(false);
  const { box, content, atEnd, toEnd, stay } = useEnd(written);
  const wanted = props.reveal === undefined ? -1 : messages.findIndex((m) => m.id === props.reveal);
  if (wanted >= 0 && messages.length - wanted > most) setMost(messages.length - wanted + before);
  const shown = messages.slice(-most);
  const hidden = messages.length - shown.length;

  const earlier = async () => {
    stay();
    setMost((n) => n + shownAtOnce);
    if (hidden >= shownAtOnce || !props.earlier) return;
    setLoading(true);
    try {
      await props.earlier();
    } catch {
      toast({ title: "Earlier messages could not be loaded.", tone: "bad" });
    } finally {
      setLoading(false);
    }
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
          {(hidden > 0 || props.earlier) && (
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
          {above}
          {shown.map((m, i) => {
            const question = onRetry && questionOf(m, messages);
            return (
              <Fragment key={m.id}>
                <Day at={m.at} before={shown[i - 1]?.at} />
                <Said
                  message={m}
                  continues={continues(shown[i - 1], m)}
                  answer={answerAt(shown, i)}
                  keyless={keyless}
                  onRetry={question === undefined ? undefined : () => onRetry?.(question)}
                />
              </Fragment>
            );
          })}
          {below}
        </div>
      </div>
      {((!atEnd && messages.length > 0) || latest) && (
        <Button
          size="small"
          onClick={() => {
            latest?.();
            toEnd();
          }}
          disabled={latest && !open}
          className="absolute bottom-3 left-1/2 -translate-x-1/2 rounded-full shadow-md"
        >
          <ChevronIcon className="size-4" /> Jump to latest
        </Button>
      )}
    </div>
  );
}
