import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useRef, useState, useSyncExternalStore, type ReactNode } from "react";
import { ApiError, sentence, type Instance } from "@/api/client";
import { instanceQuery, meQuery } from "@/api/queries";
import { session } from "@/api/session";
import { Title } from "@/attention/Title";
import { ChatPanel } from "@/chat/ChatPanel";
import { ChatConnection } from "@/chat/connection";
import { factsOf } from "@/chat/facts";
import { DesktopBar, DesktopPanel } from "@/desktop/DesktopPanel";
import { useDesktop } from "@/desktop/useDesktop";
import { WarningBanner, WarningCard, WarningLine } from "@/idle/WarningBanner";
import { possible } from "@/instances/commands";
import { StatusBadge } from "@/instances/InstanceCard";
import { InstanceMenu } from "@/instances/InstanceMenu";
import { hasDesktop, isBooting } from "@/instances/phases";
import { CostLine } from "@/money/CostLine";
import type { View } from "@/search";
import { ReadChat, ReadingChat, SavedMeanwhile } from "@/saved";
import { AccountItems, InBar, Missing } from "@/shell";
import { Banner, Button, buttonClass, EmptyState, MenuSeparator, Spinner } from "@/ui";
import { ChatIcon, DesktopIcon, SplitIcon } from "@/ui/icons";
import { useBarRoom } from "@/ui/media";
import { card } from "./AtDesktop";
import { BootPanel, BootStrip } from "./BootPanel";
import { Both } from "./Both";
import { Stopped } from "./Stopped";
import { useViews, type Views } from "./useViews";

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
  const [state, setState] = useState<HTMLElement | null>(null);
  const [tools, setTools] = useState<HTMLElement | null>(null);
  const places = useMemo(() => ({ state, tools }), [state, tools]);
  const views = useViews();
  const { narrow } = useBarRoom();
  const up = hasDesktop(i);
  return (
    <DesktopBar value={places}>
      <Title here={asked}>{i.name}</Title>
      <InBar>
        <div className="min-w-0 flex-1 px-1">
          <div className="flex items-center gap-2">
            <h1 className="min-w-0 truncate text-sm leading-5 font-semibold" title={i.name}>
              {i.name}
            </h1>
            <span className={narrow && up ? "sr-only" : "contents"}>
              <StatusBadge instance={i} />
            </span>
          </div>
          <div className="flex gap-3 text-xs leading-4 text-muted">
            <div ref={setState} className="min-w-0 truncate empty:hidden" />
            {!narrow && up && <CostLine instance={i} className="shrink-0 max-lg:sr-only" />}
          </div>
        </div>
        <div ref={setTools} className="contents" />
        {up && <ViewChoice views={views} asked={asked} />}
        <InstanceMenu instance={i} withStop>
          {narrow && (
            <>
              <MenuSeparator />
              <AccountItems withKeys />
            </>
          )}
        </InstanceMenu>
      </InBar>
      <WarningBanner instance={i} />
      <div className="min-h-0 flex-1">
        <Body instance={i} views={views} onAsked={setAsked} />
      </div>
    </DesktopBar>
  );
}

type Asked = { onAsked: (asked: boolean) => void };
type Within = Asked & { instance: Instance; views: Views };

function Body({ instance: i, views, onAsked }: Within) {
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
          <Panels instance={i} views={views} onAsked={onAsked} />
        </div>
      </div>
    );
  }
  if (isBooting(i))
    return (
      <ReadingChat instance={i}>
        <BootPanel instance={i} />
      </ReadingChat>
    );
  if (i.status === "stopping" || i.status === "stopped")
    return (
      <ReadingChat instance={i}>
        <Stopped instance={i} />
      </ReadingChat>
    );
  const another = (
    <Link to="/" search={{ create: true }} className={buttonClass("primary")}>
      New desktop
    </Link>
  );
  const ends: Partial<Record<Instance["status"], { title: string; text: ReactNode; action?: ReactNode }>> = {
    terminating: { title: "Terminating", text: "The machine and its disk are being deleted." },
    terminated: {
      title: "This desktop is terminated",
      text: "Its machine and disk have been deleted. Its history is kept.",
      action: another,
    },
    failed: {
      title: "This desktop could not be started",
      text: "Its machine has been removed. Its history shows what happened.",
      action: another,
    },
  };
  const end = ends[i.status]!;
  const page = (
    <div className="h-full overflow-y-auto">
      <EmptyState
        icon={<DesktopIcon className="size-10" />}
        title={end.title}
        action={
          <>
            {end.action}
            <ReadChat instance={i} />
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
  return <ReadingChat instance={i}>{page}</ReadingChat>;
}

const viewNames: Record<View, { label: string; icon: ReactNode }> = {
  desktop: { label: "Desktop only", icon: <DesktopIcon /> },
  both: { label: "Desktop and chat", icon: <SplitIcon /> },
  chat: { label: "Chat only", icon: <ChatIcon /> },
};

function ViewChoice({ views: { offered, view, choose }, asked }: { views: Views; asked: boolean }) {
  return (
    <fieldset className="flex shrink-0 rounded-md border border-line">
      <legend className="sr-only">View</legend>
      {offered.map((v) => (
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
            onChange={() => choose(v)}
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

function Panels({ instance: i, views, onAsked }: Within) {
  const me = useQuery(meQuery);
  const { view } = views;
  const desktop = useDesktop(i.id);
  const viewers = i.agent_state?.viewers ?? 0;
  useEffect(() => desktop.setViewers(viewers), [desktop, viewers]);
  const navigate = useNavigate({ from: "/desktops/$id" });
  const onEnd = (action: "sign_in" | "leave") =>
    action === "sign_in" ? session.end("Your session has ended. Log in again.") : void navigate({ to: "/" });
  const chat = useRef<HTMLDivElement>(null);
  const called = useRef(false);
  useEffect(() => {
    if (called.current && view !== "desktop") chat.current?.focus();
    called.current = false;
  }, [view]);
  if (!me.data) return <DesktopPanel desktop={desktop} name={i.name} onEnd={onEnd} />;
  const showChat = () => {
    called.current = true;
    views.choose(views.vertical ? "chat" : "both");
  };
  // The chat stays mounted while it is hidden, so that half-written answers are kept.
  return (
    <WithChat key={me.data.id} account={me.data.id} instance={i} onEnd={onEnd} onAsked={onAsked}>
      {(talk, connection) => (
        <Both
          connection={connection}
          desktop={desktop}
          name={i.name}
          onEnd={onEnd}
          views={views}
          onChat={showChat}
          warning={<WarningCard instance={i} className={card} />}
        >
          <div ref={chat} tabIndex={-1} className="h-full outline-none">
            {talk}
          </div>
        </Both>
      )}
    </WithChat>
  );
}

type WithChatProps = Asked & {
  account: string;
  instance: Instance;
  onEnd: (action: "sign_in" | "leave") => void;
  children: (panel: ReactNode, connection: ChatConnection) => ReactNode;
};

/**
 * Keeps the connection to the agent while the workspace is open, whether or not the panel is shown, and keeps the
 * open chat in the address.
 */
function WithChat({ account, instance, onEnd, onAsked, children }: WithChatProps) {
  const { id, name, ready, versions } = instance;
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
  const unread = useSyncExternalStore(
    connection.subscribe,
    read((c) => c.history === "none"),
  );
  const live = (
    <ChatPanel
      connection={connection}
      onEnd={onEnd}
      name={name}
      facts={factsOf(versions)}
      notice={<WarningLine instance={instance} />}
    />
  );
  const silent = unread && !ready && !isBooting(instance);
  return children(silent ? <SavedMeanwhile instance={instance} live={live} /> : live, connection);
}
