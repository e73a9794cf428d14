import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useEffect, useRef, useState, useSyncExternalStore, type ReactNode } from "react";
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
import { hasDesktop, isBooting } from "@/instances/phases";
import type { View } from "@/search";
import { Missing } from "@/shell";
import { Banner, Button, buttonClass, EmptyState, Spinner } from "@/ui";
import { BackIcon, ChatIcon, DesktopIcon, PlayIcon, SplitIcon } from "@/ui/icons";
import { useMedia } from "@/ui/media";
import { BootPanel, BootStrip } from "./BootPanel";
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
            <Banner
              tone="bad"
              action={
                <Button size="small" onClick={() => void instance.refetch()}>
                  Try again
                </Button>
              }
            >
              {sentence(instance.error)}
            </Banner>
          ) : (
            <Spinner label="Loading…" />
          )}
        </div>
      )}
    </main>
  );
}

function Workspace({ instance: i }: { instance: Instance }) {
  const [asked, setAsked] = useState(false); // the agent waits for an answer
  return (
    <>
      <title>{`${asked ? "Your answer is needed · " : ""}${i.name} · CloudBot`}</title>
      <div className="flex min-h-11 shrink-0 items-center gap-2 border-b border-line bg-panel px-2 sm:px-3">
        <Link
          to="/"
          aria-label="Back to desktops"
          title="Back to desktops"
          className="inline-flex size-9 shrink-0 items-center justify-center rounded-md hover:bg-sunken"
        >
          <BackIcon />
        </Link>
        <h1 className="min-w-0 truncate font-semibold" title={i.name}>
          {i.name}
        </h1>
        <StatusBadge instance={i} />
        <div className="ml-auto flex items-center gap-1">
          {hasDesktop(i) && <ViewChoice asked={asked} />}
          <InstanceMenu instance={i} withStop />
        </div>
      </div>
      <div className="min-h-0 flex-1">
        <Body instance={i} onAsked={setAsked} />
      </div>
    </>
  );
}

type Asked = { onAsked: (asked: boolean) => void };

function Body({ instance: i, onAsked }: { instance: Instance } & Asked) {
  const start = useStart();
  if (hasDesktop(i)) {
    return (
      <div className="flex h-full flex-col">
        {isBooting(i) ? (
          <BootStrip instance={i} />
        ) : (
          i.status_reason && (
            <Banner tone="warn" className="m-2">
              {i.status_reason}
            </Banner>
          )
        )}
        <div className="min-h-0 flex-1">
          <Panels instance={i} onAsked={onAsked} />
        </div>
      </div>
    );
  }
  if (isBooting(i)) return <BootPanel instance={i} />;
  const ends: Partial<Record<Instance["status"], { title: string; text: ReactNode; action?: ReactNode }>> = {
    stopping: { title: "Stopping", text: "The machine is shutting down. You can start it again once it has stopped." },
    stopped: {
      title: "This desktop is stopped",
      text: "Its disk is kept. Starting takes about as long as the first time, minus the installation.",
      action: (
        <Button variant="primary" busy={start.isPending} onClick={() => start.mutate({ instance: i, arg: undefined })}>
          <PlayIcon />
          Start
        </Button>
      ),
    },
    terminating: { title: "Terminating", text: "The machine and its disk are being deleted." },
    terminated: {
      title: "This desktop is terminated",
      text: "Its machine and disk have been deleted. Its history is kept.",
    },
    failed: {
      title: "This desktop could not be started",
      text: "Its machine has been removed. Its history shows what happened.",
    },
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
            {!possible(i).open && (
              <Link to="/desktops/$id/about" params={{ id: i.id }} className={buttonClass()}>
                History
              </Link>
            )}
          </>
        }
      >
        <p>{end.text}</p>
        {i.status_reason && (
          <Banner tone={i.status === "failed" ? "bad" : "warn"} className="mt-4 text-left">
            {i.status_reason}
          </Banner>
        )}
      </EmptyState>
    </div>
  );
}

/** Reports whether there is room for screen and chat side by side. */
const useWide = () => useMedia("(min-width: 56rem)");

const viewNames: Record<View, { label: string; icon: ReactNode }> = {
  desktop: { label: "Desktop only", icon: <DesktopIcon /> },
  both: { label: "Desktop and chat", icon: <SplitIcon /> },
  chat: { label: "Chat only", icon: <ChatIcon /> },
};

/** Returns the chosen view; by default both if there is room. */
function useView(): View {
  const { view } = useSearch({ from: "/signed-in/desktops/$id" });
  const isWide = useWide();
  return view ?? (isWide ? "both" : "desktop");
}

function ViewChoice({ asked }: { asked: boolean }) {
  const view = useView();
  const navigate = useNavigate({ from: "/desktops/$id" });
  return (
    <fieldset className="flex rounded-md border border-line">
      <legend className="sr-only">View</legend>
      {(["desktop", "both", "chat"] satisfies View[]).map((v) => (
        <label
          key={v}
          title={viewNames[v].label}
          className="relative inline-flex size-9 items-center justify-center rounded-md text-muted hover:text-ink has-checked:bg-accent-soft has-checked:text-accent-ink forced-colors:has-checked:bg-[Highlight] forced-colors:has-checked:text-[HighlightText] has-focus-visible:outline-2 has-focus-visible:outline-accent-ink"
        >
          <input
            type="radio"
            name="view"
            value={v}
            checked={v === view}
            onChange={() => void navigate({ search: (s) => ({ ...s, view: v }), replace: true })}
            className="sr-only"
          />
          {viewNames[v].icon}
          <span className="sr-only">
            {viewNames[v].label}
            {v === "chat" && asked && ", the agent is waiting for your answer"}
          </span>
          {v === "chat" && asked && (
            <span className="absolute top-1 right-1 size-2.5 rounded-full border-2 border-panel bg-warn forced-colors:bg-[Highlight]" />
          )}
        </label>
      ))}
    </fieldset>
  );
}

function Panels({ instance: i, onAsked }: { instance: Instance } & Asked) {
  const me = useQuery(meQuery);
  const view = useView();
  const isWide = useWide();
  const desktop = useDesktop(i.id);
  const navigate = useNavigate({ from: "/desktops/$id" });
  const onEnd = (action: "sign_in" | "leave") =>
    action === "sign_in" ? session.end("Your session has ended. Log in again.") : void navigate({ to: "/" });
  const screen = <DesktopPanel desktop={desktop} name={i.name} onEnd={onEnd} />;
  const chat = useRef<HTMLDivElement>(null);
  const called = useRef(false);
  useEffect(() => {
    if (called.current && view !== "desktop") chat.current?.focus();
    called.current = false;
  }, [view]);
  if (!me.data) return screen;
  const showChat = () => {
    called.current = true;
    void navigate({ search: (s) => ({ ...s, view: isWide ? "both" : "chat" }), replace: true });
  };
  // The chat stays mounted while it is hidden, so that half-written answers are kept.
  return (
    <WithChat key={me.data.id} account={me.data.id} instance={i} onEnd={onEnd} onAsked={onAsked}>
      {(talk, asked) => (
        <div className="relative h-full">
          <Splitter
            first={view === "chat" ? null : screen}
            second={
              <div ref={chat} tabIndex={-1} className="h-full outline-none">
                {talk}
              </div>
            }
            vertical={!isWide}
            only={view === "desktop" ? "first" : view === "chat" ? "second" : undefined}
          />
          <div role="status" className="absolute inset-x-0 bottom-3 z-20 mx-auto w-fit max-w-[95%]">
            {asked && view === "desktop" && (
              <Banner
                tone="warn"
                className="shadow-lg"
                action={
                  <Button size="small" onClick={showChat}>
                    Show the chat
                  </Button>
                }
              >
                The agent is waiting for your answer.
              </Banner>
            )}
          </div>
        </div>
      )}
    </WithChat>
  );
}

type WithChatProps = Asked & {
  account: string;
  instance: Instance;
  onEnd: (action: "sign_in" | "leave") => void;
  children: (panel: ReactNode, asked: boolean) => ReactNode;
};

/**
 * Keeps the connection to the agent while the workspace is open, whether or not the panel is shown, and keeps the
 * open chat in the address.
 */
function WithChat({ account, instance: { id, ready }, onEnd, onAsked, children }: WithChatProps) {
  const { chat } = useSearch({ from: "/signed-in/desktops/$id" });
  const navigate = useNavigate({ from: "/desktops/$id" });
  const [connection] = useState(() => new ChatConnection({ account, instance: id, session: chat }));
  useEffect(() => {
    if (!ready) return undefined; // no agent can answer yet
    connection.start();
    return () => connection.stop();
  }, [connection, ready]);
  const read =
    <T,>(of: (c: ReturnType<typeof connection.snapshot>["chat"]) => T) =>
    () =>
      of(connection.snapshot().chat);
  const open = useSyncExternalStore(
    connection.subscribe,
    read((c) => (c.current === c.main ? undefined : c.current)),
  );
  const asked = useSyncExternalStore(
    connection.subscribe,
    read((c) => [...c.approvals, ...c.inquiries].some((p) => !p.over)),
  );
  useEffect(() => {
    if (open !== chat) void navigate({ search: (s) => ({ ...s, chat: open }), replace: true });
  }, [open, chat, navigate]);
  useEffect(() => {
    onAsked(asked);
    return () => onAsked(false);
  }, [asked, onAsked]);
  return children(<ChatPanel connection={connection} onEnd={onEnd} />, asked);
}
