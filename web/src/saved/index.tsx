// The way to a desktop's saved chats while its agent cannot answer.
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { Instance } from "@/api/client";
import { Banner, Button, buttonClass, Spinner } from "@/ui";
import { ChatIcon } from "@/ui/icons";
import { part, usePart } from "@/ui/later";

const panel = part(async () => (await import("./SavedPanel")).SavedPanel);

/** Reports whether the desktop's chats may be saved, and no live chat can be opened. */
const onlySaved = ({ status }: Instance) =>
  status === "stopped" || status === "stopping" || status === "starting" || status === "failed";

/** Opens the saved chats, if there can be some. */
export function ReadChat({ instance: i }: { instance: Instance }) {
  if (!onlySaved(i)) return null;
  return (
    <Link
      to="/desktops/$id"
      params={{ id: i.id }}
      search={(s) => ({ ...s, view: "chat" as const })}
      className={buttonClass()}
    >
      <ChatIcon />
      Read the chat
    </Link>
  );
}

/** Shows the saved chats of a desktop without a live chat, if the user chose to read them; otherwise its children. */
export function ReadingChat({ instance: i, children }: { instance: Instance; children: ReactNode }) {
  const { view } = useSearch({ from: "/signed-in/desktops/$id" });
  const navigate = useNavigate({ from: "/desktops/$id" });
  if (view !== "chat" || !onlySaved(i)) return children;
  const back = () => void navigate({ search: (s) => ({ ...s, view: undefined }), replace: true });
  return <SavedChats instance={i} onBack={back} />;
}

/** Shows the saved chats in place of a live chat while the desktop does not respond. */
export function SavedMeanwhile({ instance: i, live }: { instance: Instance; live: ReactNode }) {
  const { value: Panel } = usePart(panel, true);
  return Panel ? <Panel instance={i} otherwise={live} /> : live;
}

function SavedChats(props: { instance: Instance; onBack: () => void }) {
  const { value: Panel, failed, again } = usePart(panel, true);
  if (Panel) return <Panel {...props} />;
  return (
    <div className="flex flex-col items-start gap-4 p-4">
      {failed ? (
        <Banner tone="bad" action={<Button onClick={again}>Try again</Button>}>
          The chat could not be loaded. Check your connection.
        </Banner>
      ) : (
        <Spinner label="Loading the chat…" />
      )}
      <Button onClick={props.onBack}>Back</Button>
    </div>
  );
}
