// Saved chats, to read. Loaded later: most visits need only the live chat.
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, type ReactNode } from "react";
import { sentence, type Instance } from "@/api/client";
import { Messages } from "@/chat/messages";
import { useStart } from "@/instances/commands";
import { Banner, Button, EmptyState, Menu, MenuRadio, Spinner } from "@/ui";
import { ChatIcon, ChevronIcon, PlayIcon } from "@/ui/icons";
import { chosen, messagesOf, savedQuery, savedWords, titleOf, type SavedChats, type SavedSession } from "./saved";

type Props = {
  instance: Instance;
  /** Leaves the chat; undefined: there is nothing else to see. */
  onBack?: (() => void) | undefined;
  /** Shown while nothing is known and if no chats are saved; default: words that say so. */
  otherwise?: ReactNode;
};

export function SavedPanel({ instance: i, onBack, otherwise }: Props) {
  const saved = useQuery(savedQuery(i));
  const back = onBack && <Button onClick={onBack}>Back</Button>;
  if (saved.data && saved.data.sessions.length > 0) return <Read instance={i} chats={saved.data} back={back} />;
  if (otherwise !== undefined) return otherwise;
  if (saved.error)
    return (
      <div className="flex flex-col items-start gap-4 p-4">
        <Banner tone="bad" action={<Button onClick={() => void saved.refetch()}>Try again</Button>}>
          {sentence(saved.error)}
        </Banner>
        {back}
      </div>
    );
  if (saved.isPending)
    return (
      <p className="p-8">
        <Spinner label="Loading the chat…" />
      </p>
    );
  return (
    <EmptyState icon={<ChatIcon className="size-10" />} title="No chat is saved" action={back}>
      <p>The chat is saved while the desktop runs. Start the desktop to read it there.</p>
    </EmptyState>
  );
}

function Read({ instance: i, chats, back }: { instance: Instance; chats: SavedChats; back: ReactNode }) {
  const { chat } = useSearch({ from: "/signed-in/desktops/$id" });
  const navigate = useNavigate({ from: "/desktops/$id" });
  const start = useStart();
  const session = chosen(chats, chat)!;
  const messages = useMemo(() => messagesOf(session), [session]);
  const options = chats.sessions.map((s) => ({ value: s.key, label: titleOf(s) }));
  const show = (key: string) => void navigate({ search: (s) => ({ ...s, chat: key }), replace: true });
  return (
    <section aria-label="Saved chat" className="flex h-full min-h-0 min-w-0 flex-col bg-panel text-ink">
      <h2 className="sr-only">Saved chat</h2>
      <header className="flex min-h-12 shrink-0 items-center gap-1 border-b border-line px-2">
        <Menu
          align="start"
          trigger={
            <button
              type="button"
              aria-label={`Chat: ${titleOf(session)}. Switch to another chat`}
              className="flex min-h-9 min-w-0 items-center gap-1.5 rounded-md px-2 text-sm font-semibold hover:bg-sunken"
            >
              <span className="truncate">{titleOf(session)}</span>
              <ChevronIcon className="size-4 shrink-0" />
            </button>
          }
        >
          <div className="max-w-[min(22rem,85vw)]">
            <MenuRadio label="Chats" value={session.key} onChange={show} options={options} />
          </div>
        </Menu>
        <span className="flex-1" />
        {back}
      </header>
      <div className="px-3 pt-2 sm:px-5">
        <Banner
          tone={i.status === "failed" || i.status === "running" ? "warn" : "info"}
          action={
            i.status === "stopped" && (
              <Button
                variant="primary"
                busy={start.isPending}
                onClick={() => start.mutate({ instance: i, arg: undefined })}
              >
                <PlayIcon />
                Start
              </Button>
            )
          }
        >
          {savedWords(chats.saved_at, i)}
        </Banner>
      </div>
      <Messages
        key={session.key}
        messages={messages}
        above={<LeftOut chats={chats} session={session} />}
        below={messages.length === 0 && <p className="self-center text-sm text-muted">No messages are saved.</p>}
      />
    </section>
  );
}

/** Says what a saved chat lacks. */
function LeftOut({ chats, session }: { chats: SavedChats; session: SavedSession }) {
  const missing = [
    session.left_out && "Earlier messages are on the desktop.",
    session.shortened && "Long texts are shortened.",
    chats.left_out > 0 && `${chats.left_out} older ${chats.left_out === 1 ? "chat is" : "chats are"} on the desktop.`,
  ].filter(Boolean);
  if (missing.length === 0) return null;
  return <p className="self-center text-center text-sm text-muted">{missing.join(" ")}</p>;
}
