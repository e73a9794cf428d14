// What an empty chat says of its agent, with requests to try; and the agent's badge.
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { buttonClass, Dialog, EmptyState } from "@/ui";
import { ChatIcon } from "@/ui/icons";
import { modelName, needsKey, suggestions, type Facts, type Suggestion } from "./facts";

/** AddKey leads to the API keys. */
export function AddKey({ primary = false }: { primary?: boolean }) {
  return (
    <Link to="/keys" className={buttonClass(primary ? "primary" : "plain", primary ? "normal" : "small")}>
      Add a key
    </Link>
  );
}

export function Welcome({ facts, onTry }: { facts: Facts; onTry: (s: Suggestion) => void }) {
  const missing = needsKey(facts);
  const all = suggestions(facts);
  return (
    <EmptyState
      icon={<ChatIcon className="size-8" />}
      title={missing ? "Add a key so that the agent can think" : "No messages yet"}
      action={missing && <AddKey primary />}
    >
      <p>{words(facts)}</p>
      {all.length > 0 && (
        <ul aria-label="Requests to try" className="mt-5 flex flex-col items-center gap-2">
          {all.map((s) => (
            <li key={s.text}>
              <button
                type="button"
                title={s.send ? `Sends ${s.text}` : "Writes this into the message field, where you can change it"}
                onClick={() => onTry(s)}
                className="min-h-9 rounded-2xl border border-outline bg-panel px-3.5 py-1.5 text-sm text-ink hover:bg-sunken"
              >
                {s.label}
              </button>
            </li>
          ))}
        </ul>
      )}
    </EmptyState>
  );
}

function words(f: Facts): string {
  if (f.agent === "demo") return "This is the demo agent. It has no AI model, but it shows you what an agent does.";
  if (needsKey(f))
    return "The agent works on this machine, but it has no AI model to use. It gets one with your API key.";
  return f.sees
    ? "Ask the agent to do something on this machine. It sees the same desktop as you."
    : "Ask the agent to do something on this machine.";
}

/** Badge says which agent answers here. */
export function Badge({ facts }: { facts: Facts }) {
  const [open, setOpen] = useState(false);
  if (facts.agent === "demo")
    return (
      <>
        <button
          type="button"
          aria-haspopup="dialog"
          title="The demo agent has no AI model. Press for how to get the real one."
          onClick={() => setOpen(true)}
          className="min-h-6 shrink-0 rounded-full border border-warn bg-warn-soft px-2 text-xs font-medium whitespace-nowrap text-ink"
        >
          Demo agent
        </button>
        <Dialog open={open} onClose={() => setOpen(false)} title="The demo agent">
          <div className="mt-2 flex flex-col gap-3 text-sm">
            <p>
              The real agent, OpenClaw, does not run on this machine. The demo agent takes its place: it shows what an
              agent does, but it has no AI model and understands only a few words.
            </p>
            <p>
              If CloudBot runs on your own computer: run <code className="font-mono">make agent</code> in its folder,
              then stop and start this desktop.
            </p>
          </div>
        </Dialog>
      </>
    );
  if (!facts.model) return null;
  return (
    <span title={`The agent uses ${facts.model}`} className="hidden min-w-0 truncate text-xs text-muted sm:block">
      <span className="sr-only">Model: </span>
      {modelName(facts.model)}
    </span>
  );
}
