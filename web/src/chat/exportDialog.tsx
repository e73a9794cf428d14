// Loads a whole chat and saves it as a Markdown file.
import { useEffect, useState } from "react";
import { Banner, Button, Dialog, Spinner } from "@/ui";
import type { ChatConnection } from "./connection";
import { collect, fileName, markdownOf, type Exported } from "./export";

type Props = {
  open: boolean;
  onClose: () => void;
  connection: ChatConnection;
  session: string;
  title: string;
  desktop: string;
};

export function ExportDialog({ open, onClose, ...rest }: Props) {
  const [tries, setTries] = useState(0);
  return (
    <Dialog open={open} onClose={onClose} title="Export this chat as Markdown">
      <Loading key={tries} {...rest} onClose={onClose} onAgain={() => setTries((n) => n + 1)} />
    </Dialog>
  );
}

function Loading({
  connection,
  session,
  title,
  desktop,
  onClose,
  onAgain,
}: Omit<Props, "open"> & { onAgain: () => void }) {
  const [count, setCount] = useState(0);
  const [done, setDone] = useState<Exported>();
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    const stop = new AbortController();
    collect((offset) => connection.history(session, offset), setCount, stop.signal).then(
      (exported) => !stop.signal.aborted && setDone(exported),
      () => !stop.signal.aborted && setFailed(true),
    );
    return () => stop.abort();
  }, [connection, session]);
  const save = () => {
    const now = new Date();
    const text = markdownOf(done!, desktop, title, now);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/markdown;charset=utf-8" }));
    link.download = fileName(desktop, title, now);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    onClose();
  };
  return (
    <div className="flex flex-col gap-3">
      {failed ? (
        <Banner
          tone="bad"
          action={
            <Button size="small" onClick={onAgain}>
              Try again
            </Button>
          }
        >
          The messages could not be loaded. Check the connection to the agent.
        </Banner>
      ) : done ? (
        <p role="status">
          {done.messages.length.toLocaleString()} messages are ready, with times, tools and errors. Pictures are named,
          not included.
          {done.cut && " The chat has more: an export has its newest 10,000 or so."}
          {done.answering && " The answer under way is not complete in it."}
        </p>
      ) : (
        <p role="status">
          <Spinner label={`Loading the messages… ${count > 0 ? count.toLocaleString() : ""}`} />
        </p>
      )}
      <div className="flex flex-wrap justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button variant="primary" disabled={!done} onClick={save}>
          Save file
        </Button>
      </div>
    </div>
  );
}
