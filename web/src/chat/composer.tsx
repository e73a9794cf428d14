import { useId, useState, type KeyboardEvent, type RefObject } from "react";
import { Button, IconButton, toast } from "@/ui";
import { SendIcon, StopIcon } from "@/ui/icons";
import { useMedia } from "@/ui/media";
import type { ChatConnection } from "./connection";

type Props = {
  connection: ChatConnection;
  session: string;
  running: boolean;
  field: RefObject<HTMLTextAreaElement | null>;
};

/** The field to write messages in. Enter sends, Shift+Enter starts a new line, Escape stops an answer. */
export function Composer({ connection, session, running, field }: Props) {
  const [text, setText] = useState(() => connection.outbox.draft(session));
  const [problem, setProblem] = useState("");
  // An on-screen keyboard has no Shift+Enter, and the send button is within reach of the thumb.
  const touch = useMedia("(pointer: coarse) and (not (any-pointer: fine))");
  const hint = useId();

  const write = (value: string) => {
    setText(value);
    setProblem("");
    connection.outbox.setDraft(session, value);
  };
  const send = () => {
    if (text.trim() === "") return;
    try {
      connection.send(text);
      write("");
    } catch (error) {
      setProblem(error instanceof Error ? error.message : "The message could not be sent.");
    }
    field.current?.focus();
  };
  const stop = () => {
    connection.abort().catch((error: unknown) =>
      toast({
        title: "The answer could not be stopped.",
        detail: error instanceof Error ? error.message : "",
        tone: "bad",
      }),
    );
    field.current?.focus();
  };
  const key = (e: KeyboardEvent) => {
    // While an input method is open, these keys belong to it; some browsers report 229 instead.
    if (e.nativeEvent.isComposing || e.keyCode === 229) return;
    if (e.key === "Enter" && !e.shiftKey && !touch) {
      e.preventDefault();
      send();
    } else if (e.key === "Escape" && running) {
      e.preventDefault();
      stop();
    }
  };

  return (
    <form
      className="shrink-0 px-3 pt-2 pb-3 sm:px-5"
      onSubmit={(e) => {
        e.preventDefault();
        send();
      }}
    >
      <div className="mx-auto flex max-w-3xl items-end gap-1.5 rounded-xl border border-outline bg-panel p-1.5 focus-within:outline-2 focus-within:outline-offset-1 focus-within:outline-accent-ink">
        <textarea
          ref={field}
          value={text}
          onChange={(e) => write(e.target.value)}
          onKeyDown={key}
          rows={1}
          aria-label="Message to the agent"
          aria-describedby={hint}
          aria-invalid={problem ? true : undefined}
          placeholder="Message"
          className="field-sizing-content max-h-40 min-h-9 flex-1 resize-none bg-transparent px-2 py-1.5 text-base outline-none placeholder:text-muted sm:text-sm"
        />
        {running && (
          <Button size="small" className="min-h-9" onClick={stop}>
            <StopIcon className="size-4" /> Stop
          </Button>
        )}
        <IconButton
          type="submit"
          label="Send"
          disabled={text.trim() === ""}
          className="bg-accent text-on-accent enabled:hover:bg-accent-hover"
        >
          <SendIcon />
        </IconButton>
      </div>
      <p id={hint} className="sr-only">
        {touch
          ? "Press Enter for a new line and the button to send"
          : "Press Enter to send, Shift and Enter for a new line"}
        {running ? ", Escape to stop the answer" : ""}.
      </p>
      {problem && (
        <p role="alert" className="mx-auto mt-1 max-w-3xl px-1 text-sm text-bad">
          {problem}
        </p>
      )}
    </form>
  );
}
