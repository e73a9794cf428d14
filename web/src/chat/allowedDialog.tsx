// The list of what is always allowed, with a button to take each back; and what "Always allow" covers.
import { useEffect, useRef, useState } from "react";
import { Banner, Button, Dialog, Spinner } from "@/ui";
import { canTakeBack, loadAllowed, removeAllowed, whyNot, type Allowance, type Allowances, type Asks } from "./allowed";
import type { Approval } from "./frames";

export const listName = "Always allowed…";

/** Covers says what "Always allow" covers and where to take it back, as far as that is known. */
export function Covers({ approval: a, connection }: { approval: Approval; connection: Asks }) {
  const [listed, setListed] = useState(false);
  const command = a.always === "command" && a.decisions.includes("allow-always");
  useEffect(() => {
    let gone = false;
    if (command)
      void canTakeBack(connection).then((can) => {
        if (!gone) setListed(can);
      });
    return () => void (gone = true);
  }, [command, connection]);
  if (a.over || !a.always || !a.decisions.includes("allow-always")) return null;
  return (
    <p className="text-xs">
      {a.always === "plugin"
        ? "“Always allow”: the plug-in that asks decides what this covers. It can't be taken back here."
        : `“Always allow”: the agent may run exactly this command on this desktop without asking again${
            a.parts > 1 ? `, and each of its ${a.parts} commands alone` : ""
          }.`}
      {listed && ` To take it back, open the chat's menu and choose “${listName}”`}
    </p>
  );
}

export function AllowedDialog({ connection, onClose }: { connection: Asks; onClose: () => void }) {
  const [tries, setTries] = useState(0);
  return (
    <Dialog open onClose={onClose} title="Always allowed on this desktop">
      <List key={tries} connection={connection} onAgain={() => setTries((n) => n + 1)} />
    </Dialog>
  );
}

function List({ connection, onAgain }: { connection: Asks; onAgain: () => void }) {
  const [list, setList] = useState<Allowances>();
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState<string>();
  const [removed, setRemoved] = useState("");
  const box = useRef<HTMLDivElement>(null);

  useEffect(() => {
    loadAllowed(connection).then(setList, (error: unknown) => setProblem(whyNot(error)));
  }, [connection]);

  const remove = async (e: Allowance) => {
    setBusy(e.id);
    setProblem("");
    try {
      setList(await removeAllowed(connection, e.id));
      setRemoved(`Removed. The agent asks again before it uses ${nameOf(e)}.`);
      box.current?.focus(); // the pressed button is gone
    } catch (error) {
      setProblem(whyNot(error));
    } finally {
      setBusy(undefined);
    }
  };

  return (
    <div ref={box} tabIndex={-1} className="mt-2 flex flex-col gap-3 text-sm outline-none">
      <p className="text-muted">The agent does these without asking, in every chat.</p>
      {problem && (
        <Banner
          tone="bad"
          action={
            !list && (
              <Button size="small" onClick={onAgain}>
                Try again
              </Button>
            )
          }
        >
          {problem}
        </Banner>
      )}
      {!list && !problem && <Spinner label="Loading the list…" />}
      {list?.entries.length === 0 && (
        <p>Nothing. When the agent asks to run a command, “Always allow” adds the command here.</p>
      )}
      {list && list.entries.length > 0 && (
        <ul className="flex max-h-[50vh] flex-col divide-y divide-line overflow-y-auto rounded-lg border border-line">
          {list.entries.map((e) => (
            <li key={e.id} className="flex items-center gap-3 p-2.5">
              <div className="min-w-0 flex-1">
                <p className="font-mono text-xs break-words whitespace-pre-wrap">{nameOf(e)}</p>
                <p className="mt-0.5 text-xs text-muted">{detailOf(e)}</p>
              </div>
              <Button
                size="small"
                aria-label={`Remove ${nameOf(e)}`}
                busy={busy === e.id}
                disabled={busy !== undefined}
                onClick={() => void remove(e)}
              >
                Remove
              </Button>
            </li>
          ))}
        </ul>
      )}
      {list && list.more > 0 && <p className="text-muted">{list.more} more are not shown. Remove some to see them.</p>}
      <p role="status" className="empty:hidden">
        {removed}
      </p>
    </div>
  );
}

const nameOf = (e: Allowance) => e.tool || e.command || e.programs.join(", ") || "an unnamed command";

function detailOf(e: Allowance): string {
  const covers = e.tool
    ? "This tool, with any input"
    : e.any
      ? "This program, with any arguments"
      : e.command === ""
        ? "One command with fixed arguments, which the agent no longer knows"
        : e.programs.length > 1
          ? `Exactly this command, and each part alone: ${e.programs.join(", ")}`
          : "Exactly this command";
  const used = e.usedAt === undefined || e.usedAt <= 0 ? "" : ` · last used ${new Date(e.usedAt).toLocaleString()}`;
  return `${covers}${e.agent && ` · agent ${e.agent}`}${used}`;
}
