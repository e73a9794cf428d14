// What the agent did and wrote, in that order.
import { Component, Fragment, useEffect, useState, type ReactNode } from "react";
import { Spinner } from "@/ui";
import { part, usePart } from "@/ui/later";
import { CheckIcon, ChevronIcon, DeniedIcon, HistoryIcon, StopIcon, ToolIcon, WarnIcon } from "@/ui/icons";
import type { Tool } from "./frames";
import { Pictures } from "./pictures";
import { Scroll } from "./scroll";
import { inOrder } from "./transcript";
import { seconds, toolStates } from "./words";

const markdown = part(async () => (await import("./markdown")).default);

/** Answer is a text with the tools that were used between its parts. */
export function Answer({ text, tools }: { text: string; tools: Tool[] }) {
  return inOrder(text, tools).map((piece, n) => (
    // oxlint-disable-next-line react/no-array-index-key -- a piece stays what it is: only the last one grows
    <Fragment key={n}>
      {piece.text.trim() !== "" && <Text text={piece.text} />}
      <Tools tools={piece.tools} />
    </Fragment>
  ));
}

/** Text shows Markdown; plain text until the parser is loaded, or if it fails. */
function Text({ text }: { text: string }) {
  const { value: Markdown } = usePart(markdown, true);
  const raw = <p className="break-words whitespace-pre-wrap">{text}</p>;
  return <Otherwise show={raw}>{Markdown ? <Markdown text={text} /> : raw}</Otherwise>;
}

class Otherwise extends Component<{ show: ReactNode; children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };
  static getDerivedStateFromError = () => ({ failed: true });
  override render() {
    return this.state.failed ? this.props.show : this.props.children;
  }
}

function Tools({ tools }: { tools: Tool[] }) {
  if (tools.length === 0) return null;
  return (
    <ul aria-label="Tools used" className="my-1.5 flex flex-col gap-1">
      {tools.map((t) => (
        <li key={t.id}>
          <Row tool={t} />
          <Pictures
            pictures={t.pictures}
            name={t.name === "computer" ? "Screenshot" : `Picture from the tool ${t.name}`}
          />
        </li>
      ))}
    </ul>
  );
}

function Row({ tool: t }: { tool: Tool }) {
  const ran = t.state !== "denied" && t.state !== "expired" && t.state !== "held"; // else the time is what the user took
  const took =
    ran && t.startedAt !== undefined && t.endedAt !== undefined ? ` · ${seconds(t.endedAt - t.startedAt)}` : "";
  return (
    <details className="group rounded-lg border border-line bg-panel text-sm">
      <summary className="flex min-h-9 list-none items-center gap-2 rounded-lg px-2.5 py-1 hover:bg-sunken [&::-webkit-details-marker]:hidden">
        <ToolIcon className="size-4 shrink-0 text-muted" />
        <span className="shrink-0 font-mono text-xs font-semibold">{t.name}</span>
        <span className="min-w-0 flex-1 truncate font-mono text-xs text-muted">{brief(t.args)}</span>
        <State tool={t} />
        <span className={`shrink-0 text-xs ${t.state === "failed" ? "text-bad" : "text-muted"}`}>
          {toolStates[t.state]}
          {took}
        </span>
        <ChevronIcon className="size-4 shrink-0 text-muted group-open:rotate-180" />
      </summary>
      <div className="flex flex-col gap-2 border-t border-line p-2.5">
        {t.args && <Detail name="Input" text={t.args} />}
        {t.result && <Detail name="Result" text={t.result} />}
        {!t.args && !t.result && !t.pictures && <p className="text-muted">No details available.</p>}
      </div>
    </details>
  );
}

function State({ tool }: { tool: Tool }) {
  if (tool.state === "running") return <Spinner />;
  if (tool.state === "failed") return <WarnIcon className="size-4 shrink-0 text-bad" />;
  if (tool.state === "denied") return <DeniedIcon className="size-4 shrink-0 text-warn" />;
  if (tool.state === "expired" || tool.state === "held") return <HistoryIcon className="size-4 shrink-0 text-warn" />;
  if (tool.state === "stopped") return <StopIcon className="size-4 shrink-0 text-muted" />;
  return <CheckIcon className="size-4 shrink-0 text-good" />;
}

function Detail({ name, text }: { name: string; text: string }) {
  return (
    <div>
      <p className="mb-1 text-xs font-medium text-muted">{name}</p>
      <Scroll
        pre
        label={name}
        className="max-h-64 overflow-auto rounded bg-sunken p-2 font-mono text-xs break-words whitespace-pre-wrap"
      >
        {text}
      </Scroll>
    </div>
  );
}

/** brief returns the first value of a tool's input, on one line. */
function brief(args: string): string {
  try {
    const first: unknown = Object.values(JSON.parse(args) as object)[0];
    if (typeof first === "string") return first.slice(0, 200);
  } catch {
    // cut off, or not JSON
  }
  return args.replaceAll(/\s+/g, " ").slice(0, 200);
}

/** Elapsed counts the seconds since a time, once there are enough to notice. */
export function Elapsed({ since }: { since: number | undefined }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  if (since === undefined || now - since < 3_000) return null;
  return (
    <span aria-hidden="true" className="tabular-nums">
      {Math.round((now - since) / 1_000)} s
    </span>
  );
}
