// A message in the outbox, and what the user can do about it.
import { Button } from "@/ui";
import type { ChatConnection } from "./connection";
import type { Item } from "./outbox";
import { Mine } from "./said";
import { Files } from "./sent";

export function Waiting({
  item,
  open,
  running,
  connection,
  part,
}: {
  item: Item;
  open: boolean;
  running: boolean;
  connection: ChatConnection;
  /** How much of it is sent, 0 to 1; undefined: it has no files, or is not being sent. */
  part?: number | undefined;
}) {
  const delivery = <Delivery item={item} open={open} running={running} connection={connection} />;
  return (
    <Mine
      at={item.at}
      below={
        <>
          <Files files={item.files} message={item.key} />
          {part === undefined ? delivery : <Progress part={part} onCancel={() => connection.discard(item.key)} />}
        </>
      }
    >
      {item.text}
    </Mine>
  );
}

/** Progress shows how much of a message with files is sent. Until all is, the agent has nothing of it. */
function Progress({ part, onCancel }: { part: number; onCancel: () => void }) {
  const percent = Math.floor(part * 100);
  return (
    <p className="flex items-center gap-2 text-xs text-muted">
      <progress aria-label="Sending the files" max={100} value={percent} className="h-1.5 w-28 accent-accent" />
      <span className="tabular-nums">{percent < 100 ? `${percent} % sent` : "Sent. Waiting for the agent…"}</span>
      {percent < 100 && (
        <Button size="small" variant="quiet" onClick={onCancel}>
          Cancel
        </Button>
      )}
    </p>
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
        {item.state === "unchecked" ? (
          <>
            <strong>Not sent yet.</strong> The messages of this chat could not be read, so it is not known whether this
            one has arrived. CloudBot keeps trying.
          </>
        ) : item.state === "unconfirmed" ? (
          <>
            <strong>Delivery unconfirmed.</strong> The agent may or may not have received it. You can retry: CloudBot
            checks first whether it arrived.
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
