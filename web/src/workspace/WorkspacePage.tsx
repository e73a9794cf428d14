import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useEffect, useState, type ReactNode } from "react";
import { ApiError, sentence, type Instance } from "@/api/client";
import { instanceQuery, meQuery } from "@/api/queries";
import { session } from "@/api/session";
import { ChatPanel } from "@/chat/ChatPanel";
import { ChatConnection } from "@/chat/connection";
import { DesktopPanel } from "@/desktop/DesktopPanel";
import { useDesktop } from "@/desktop/useDesktop";
import { possible, useStart } from "@/instances/commands";
import { StatusBadge } from "@/instances/InstanceCard";
import { InstanceMenu } from "@/instances/InstanceMenu";
import { isBooting } from "@/instances/phases";
import type { View } from "@/router";
import { Missing } from "@/shell";
import { Banner, Button, buttonClass, EmptyState, Spinner } from "@/ui";
import { BackIcon, ChatIcon, DesktopIcon, PlayIcon, SplitIcon } from "@/ui/icons";
import { useMedia } from "@/ui/media";
import { BootPanel } from "./BootPanel";
import { Splitter } from "./Splitter";

export function WorkspacePage() {
  const { id } = useParams({ from: "/signed-in/desktops/$id" });
  const instance = useQuery(instanceQuery(id));
  const missing = instance.error instanceof ApiError && instance.error.status === 404;
  return (
    <main id="main" tabIndex={-1} className="flex min-h-0 flex-1 flex-col outline-none">
      {missing ? (
        <Missing />
      ) : instance.data ? (
        <Workspace key={id} instance={instance.data} />
      ) : (
        <div className="p-8">
          {instance.error ? (
            <Banner tone="bad" action={<Button size="small" onClick={() => void instance.refetch()}>Try again</Button>}>{sentence(instance.error)}</Banner>
          ) : (
            <Spinner label="Loading…" />
          )}
        </div>
      )}
    </main>
  );
}

function Workspace({ instance: i }: { instance: Instance }) {
  return (
    <>
      <title>{`${i.name} · CloudBot`}</title>
      <div className="flex min-h-11 shrink-0 items-center gap-2 border-b border-line bg-panel px-2 sm:px-3">
        <Link to="/" aria-label="Back to the desktops" title="Back to the desktops" className="inline-flex size-9 shrink-0 items-center justify-center rounded-md hover:bg-sunken"><BackIcon /></Link>
        <h1 className="min-w-0 truncate font-semibold" title={i.name}>{i.name}</h1>
        <StatusBadge instance={i} />
        <div className="ml-auto flex items-center gap-1">
          {i.status === "running" && <ViewChoice />}
          <InstanceMenu instance={i} withStop />
        </div>
      </div>
      <div className="min-h-0 flex-1">
        <Body instance={i} />
      </div>
    </>
  );
}

function Body({ instance: i }: { instance: Instance }) {
  const start = useStart();
  if (isBooting(i)) return <BootPanel instance={i} />;
  if (i.status === "running") return <Panels instance={i} />;
  const ends: Partial<Record<Instance["status"], { title: string; text: ReactNode; action?: ReactNode }>> = {
    stopping: { title: "Stopping", text: "The machine is shutting down. You can start it again once it has stopped." },
    stopped: {
      title: "This desktop is stopped",
      text: "Its disk is kept as it was. Starting it takes about as long as the first time, without the installation.",
      action: <Button variant="primary" busy={start.isPending} onClick={() => start.mutate({ instance: i, arg: undefined })}><PlayIcon />Start</Button>,
    },
    terminating: { title: "Terminating", text: "The machine and its disk are being deleted." },
    terminated: { title: "This desktop is terminated", text: "Its machine is gone for good. Its history stays." },
    failed: { title: "This desktop could not be started", text: "No machine of it is left. Its history tells what happened." },
  };
  const end = ends[i.status]!;
  return (
    <div className="h-full overflow-y-auto">
      <EmptyState
        icon={<DesktopIcon className="size-10" />}
        title={end.title}
        action={
          <>
            {end.action}
            {!possible(i).open && <Link to="/desktops/$id/about" params={{ id: i.id }} className={buttonClass()}>History</Link>}
          </>
        }
      >
        <p>{end.text}</p>
        {i.status_reason && <Banner tone={i.status === "failed" ? "bad" : "warn"} className="mt-4 text-left">{i.status_reason}</Banner>}
      </EmptyState>
    </div>
  );
}

/** Whether there is room for screen and chat side by side. */
const useWide = () => useMedia("(min-width: 56rem)");

const viewNames: Record<View, { label: string; icon: ReactNode }> = {
  desktop: { label: "Desktop only", icon: <DesktopIcon /> },
  both: { label: "Desktop and chat", icon: <SplitIcon /> },
  chat: { label: "Chat only", icon: <ChatIcon /> },
};

/** What is shown: what was chosen, else both where there is room. */
function useView(): View {
  const { view } = useSearch({ from: "/signed-in/desktops/$id" });
  const isWide = useWide();
  return view ?? (isWide ? "both" : "desktop");
}

function ViewChoice() {
  const view = useView();
  const navigate = useNavigate({ from: "/desktops/$id" });
  return (
    <fieldset className="flex rounded-md border border-line">
      <legend className="sr-only">What is shown</legend>
      {(["desktop", "both", "chat"] satisfies View[]).map((v) => (
        <label key={v} title={viewNames[v].label} className="inline-flex size-9 items-center justify-center rounded-md text-muted hover:text-ink has-checked:bg-accent-soft has-checked:text-accent-ink forced-colors:has-checked:bg-[Highlight] forced-colors:has-checked:text-[HighlightText] has-focus-visible:outline-2 has-focus-visible:outline-accent-ink">
          <input type="radio" name="view" value={v} checked={v === view} onChange={() => void navigate({ search: { view: v }, replace: true })} className="sr-only" />
          {viewNames[v].icon}
          <span className="sr-only">{viewNames[v].label}</span>
        </label>
      ))}
    </fieldset>
  );
}

function Panels({ instance: i }: { instance: Instance }) {
  const me = useQuery(meQuery);
  const view = useView();
  const isWide = useWide();
  const desktop = useDesktop(i.id);
  const navigate = useNavigate();
  const onEnd = (action: "sign_in" | "leave") => (action === "sign_in" ? session.end("Your session has ended. Log in again.") : void navigate({ to: "/" }));
  const screen = <DesktopPanel desktop={desktop} instance={i} onEnd={onEnd} />;
  if (!me.data) return screen;
  return (
    <WithChat key={me.data.id} account={me.data.id} instance={i.id} onEnd={onEnd}>
      {(talk) => (view === "desktop" ? screen : view === "chat" ? talk : <Splitter first={screen} second={talk} vertical={!isWide} />)}
    </WithChat>
  );
}

/** Keeps the connection to the agent while the workspace is open, whether or not the panel is there. */
function WithChat({ account, instance, onEnd, children }: { account: string; instance: string; onEnd: (action: "sign_in" | "leave") => void; children: (panel: ReactNode) => ReactNode }) {
  const [connection] = useState(() => new ChatConnection({ account, instance }));
  useEffect(() => {
    connection.start();
    return () => connection.stop();
  }, [connection]);
  return children(<ChatPanel connection={connection} onEnd={onEnd} />);
}
