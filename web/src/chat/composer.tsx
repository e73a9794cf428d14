import {
  useEffect,
  useId,
  useRef,
  useState,
  type ClipboardEvent,
  type KeyboardEvent,
  type ReactNode,
  type RefObject,
} from "react";
import { Button, IconButton, toast } from "@/ui";
import { hasFiles, useDragging } from "@/ui/drops";
import { AttachIcon, CameraIcon, SendIcon, StopIcon } from "@/ui/icons";
import { useMedia } from "@/ui/media";
import type { ChatConnection } from "./connection";
import { lengthOf, tooMuch, type Attached } from "./files";
import { outboxLimits } from "./outbox";
import { tray } from "./sent";

type Props = {
  connection: ChatConnection;
  session: string;
  running: boolean;
  /** A new chat is on its way: what is typed now would go to the chat before it. */
  creating: boolean;
  field: RefObject<HTMLTextAreaElement | null>;
};

/**
 * The field to write messages in, and the files to send with them. Enter sends, Shift+Enter starts a new line, Escape stops
 * an answer.
 */
export function Composer({ connection, session, running, creating, field }: Props) {
  const [text, setText] = useState(() => connection.outbox.draft(session));
  const [problem, setProblem] = useState("");
  const [long, setLong] = useState(""); // a pasted text that is too long for a message
  const { files, attach, remove, clear, busy } = useFiles(connection, session, setProblem);
  const [keeping, setKeeping] = useState(false);
  // An on-screen keyboard has no Shift+Enter, and the send button is within reach of the thumb.
  const touch = useMedia("(pointer: coarse) and (not (any-pointer: fine))");
  const hint = useId();
  const over = useDrops(field, (dropped) => attach(dropped, "file"));
  const Tray = tray.got()?.Tray;
  const nothing = text.trim() === "" && files.length === 0;

  const write = (value: string) => {
    setText(value);
    setProblem("");
    connection.outbox.setDraft(session, value);
  };
  const send = async () => {
    if (nothing || keeping || busy || creating) return;
    field.current?.focus();
    try {
      if (files.length === 0) connection.send(text);
      else await sendWithFiles();
      clear();
      write("");
    } catch (error) {
      setProblem(error instanceof Error ? error.message : "The message could not be sent.");
    }
  };
  const sendWithFiles = async () => {
    const why = tooMuch(text, files, connection.limits);
    if (why) throw new Error(why);
    setKeeping(true);
    try {
      const kept = await connection.uploads.keep(files);
      try {
        connection.send(text, kept);
      } catch (error) {
        connection.uploads.drop(kept);
        throw error;
      }
    } finally {
      setKeeping(false);
    }
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
      void send();
    } else if (e.key === "Escape" && running) {
      e.preventDefault();
      stop();
    }
  };
  const paste = (e: ClipboardEvent) => {
    const pasted = e.clipboardData.getData("text/plain");
    const pictures = [...e.clipboardData.files];
    if (pictures.length > 0 && pasted === "") {
      e.preventDefault();
      attach(pictures, "paste");
    } else if (lengthOf(pasted) > outboxLimits.bytes) {
      e.preventDefault();
      setLong(pasted);
    }
  };
  const asFile = (content: string) => attach([new File([content], "message.txt", { type: "text/plain" })], "paste");

  return (
    <form
      className="shrink-0 px-3 pt-2 pb-3 sm:px-5"
      onSubmit={(e) => {
        e.preventDefault();
        void send();
      }}
    >
      {over !== undefined && (
        <div
          className={`pointer-events-none absolute inset-2 z-20 flex items-center justify-center rounded-xl border-2 border-dashed border-accent p-4 text-center font-medium ${over ? "bg-accent-soft text-accent-ink" : "bg-panel/80 text-ink"}`}
        >
          Drop files here to send them to the agent
        </div>
      )}
      {files.length > 0 && Tray && (
        <Tray
          files={files}
          onRemove={(nth) => {
            remove(nth);
            field.current?.focus();
          }}
        />
      )}
      <div className="mx-auto flex max-w-3xl items-end gap-1.5 rounded-xl border border-outline bg-panel p-1.5 focus-within:outline-2 focus-within:outline-offset-1 focus-within:outline-accent-ink">
        <Choose onChoose={(chosen) => attach(chosen, "file")} camera={touch} />
        <textarea
          ref={field}
          value={text}
          onChange={(e) => write(e.target.value)}
          onKeyDown={key}
          onPaste={paste}
          rows={1}
          readOnly={creating}
          aria-label="Message to the agent"
          aria-describedby={hint}
          aria-invalid={problem ? true : undefined}
          placeholder={creating ? "Starting a new chat…" : "Message"}
          className="field-sizing-content max-h-40 min-h-9 min-w-0 flex-1 resize-none bg-transparent px-2 py-1.5 text-base outline-none placeholder:text-muted sm:text-sm"
        />
        {running && (
          <Button size="small" className="min-h-9" onClick={stop}>
            <StopIcon className="size-4" /> Stop
          </Button>
        )}
        <IconButton
          type="submit"
          label="Send"
          disabled={nothing || keeping || busy || creating}
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
      {long !== "" && (
        <Offer words="The pasted text is longer than a message can be (64 KiB)." onDismiss={() => setLong("")}>
          <Button
            size="small"
            onClick={() => {
              asFile(long);
              setLong("");
              field.current?.focus();
            }}
          >
            Attach it as a text file
          </Button>
        </Offer>
      )}
      {problem && (
        <div role="alert" className="mx-auto mt-1 flex max-w-3xl flex-wrap items-center gap-2 px-1 text-sm text-bad">
          <span className="min-w-0 [overflow-wrap:anywhere]">{problem}</span>
          {lengthOf(text) > outboxLimits.bytes && (
            <Button
              size="small"
              onClick={() => {
                asFile(text);
                write("");
                field.current?.focus();
              }}
            >
              Attach it as a text file
            </Button>
          )}
        </div>
      )}
    </form>
  );
}

type OfferProps = { words: string; onDismiss: () => void; children: ReactNode };

const Offer = ({ words, onDismiss, children }: OfferProps) => (
  <div role="alert" className="mx-auto mt-1 flex max-w-3xl flex-wrap items-center gap-2 px-1 text-sm">
    <span className="min-w-0 flex-1 basis-48">{words}</span>
    {children}
    <Button size="small" variant="quiet" onClick={onDismiss}>
      Discard it
    </Button>
  </div>
);

/** Choose opens the system's dialog for files, and on phones the camera. */
function Choose({ onChoose, camera }: { onChoose: (files: File[]) => void; camera: boolean }) {
  const files = useRef<HTMLInputElement>(null);
  const picture = useRef<HTMLInputElement>(null);
  const input = (ref: RefObject<HTMLInputElement | null>, label: string) => (
    <input
      ref={ref}
      type="file"
      hidden
      aria-label={label}
      {...(ref === picture ? { accept: "image/*", capture: "environment" as const } : { multiple: true })}
      onChange={(e) => {
        onChoose([...(e.target.files ?? [])]);
        e.target.value = ""; // the same file can be chosen again
      }}
    />
  );
  return (
    <>
      {input(files, "Files to send")}
      <IconButton label="Attach files" onClick={() => files.current?.click()}>
        <AttachIcon />
      </IconButton>
      {camera && (
        <>
          {input(picture, "Picture to send")}
          <IconButton label="Take a picture" onClick={() => picture.current?.click()}>
            <CameraIcon />
          </IconButton>
        </>
      )}
    </>
  );
}

/** useFiles are the files of the message that is being written. They stay while another session is open. */
function useFiles(connection: ChatConnection, session: string, onProblem: (words: string) => void) {
  const [files, show] = useState<Attached[]>(() => connection.trays.get(session) ?? []);
  const [busy, setBusy] = useState(false);
  const turn = useRef(Promise.resolve());
  const set = (next: Attached[]) => {
    if (next.length > 0) connection.trays.set(session, next);
    else connection.trays.delete(session);
    show(next);
  };
  const add = async (chosen: File[], origin: Attached["origin"]) => {
    try {
      const { take } = await tray.load();
      const taken = await take(chosen, connection.trays.get(session) ?? [], origin, connection.limits);
      set(taken.files);
      onProblem(taken.problem);
    } catch {
      onProblem("Files can't be attached at present: a part of the page could not be loaded. Check your connection.");
    }
    setBusy(false);
  };
  const attach = (chosen: File[], origin: Attached["origin"]) => {
    if (chosen.length === 0) return;
    setBusy(true);
    turn.current = turn.current.then(() => add(chosen, origin)); // one after the other: each counts those there
  };
  return { files, attach, busy, remove: (nth: number) => set(files.filter((_, n) => n !== nth)), clear: () => set([]) };
}

/** useDrops takes files that are dropped on the chat. over: a drag is over it; undefined: there is no drag. */
function useDrops(field: RefObject<HTMLElement | null>, onDrop: (files: File[]) => void): boolean | undefined {
  const dragging = useDragging();
  const [over, setOver] = useState(false);
  const taken = useRef(onDrop);
  useEffect(() => {
    taken.current = onDrop;
  });
  useEffect(() => {
    const target = field.current?.closest("section");
    if (!target) return undefined;
    const gone = new AbortController();
    for (const type of ["dragenter", "dragover", "drop"] as const)
      target.addEventListener(
        type,
        (e) => {
          if (!hasFiles(e) || !e.dataTransfer) return;
          e.preventDefault();
          e.dataTransfer.dropEffect = "copy";
          setOver(type !== "drop");
          if (type === "drop") taken.current([...e.dataTransfer.files]);
        },
        { signal: gone.signal },
      );
    target.addEventListener("dragleave", (e) => target.contains(e.relatedTarget as Node | null) || setOver(false), {
      signal: gone.signal,
    });
    return () => gone.abort();
  }, [field]);
  return dragging ? over : undefined;
}
