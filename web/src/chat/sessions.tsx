// The open chat: create, rename, delete, switch.
import { useState, type FormEvent } from "react";
import {
  Button,
  ConfirmDialog,
  Dialog,
  IconButton,
  Menu,
  MenuItem,
  MenuRadio,
  MenuSeparator,
  TextField,
  toast,
} from "@/ui";
import { CheckIcon, ChevronIcon, EditIcon, MoreIcon, PlusIcon, SaveIcon, SearchIcon, TrashIcon } from "@/ui/icons";
import { whenOpen } from "@/ui/later";
import { AllowedDialog, listName } from "./allowedDialog";
import type { ChatConnection } from "./connection";
import type { Facts } from "./facts";
import type { ChatState } from "./state";
import { Badge } from "./welcome";

const ExportDialog = whenOpen(async () => (await import("./exportDialog")).ExportDialog);

const sorry = (title: string) => (error: unknown) => {
  toast({ title, detail: error instanceof Error ? error.message : "", tone: "bad" });
};

export function Sessions({
  connection,
  chat,
  facts,
  open,
  creating,
  onCreating,
  onNew,
  name,
  onSearch,
}: {
  connection: ChatConnection;
  chat: ChatState;
  facts: Facts;
  open: boolean;
  creating: boolean;
  onCreating: (creating: boolean) => void;
  onNew: () => void;
  name: string;
  onSearch: () => void;
}) {
  const [dialog, setDialog] = useState<"rename" | "delete" | "allowed" | "export">();
  const current = chat.sessions.find((s) => s.key === chat.current);
  const title = current?.title ?? (chat.current === chat.main ? "Main" : "New chat");
  const close = () => setDialog(undefined);

  const create = async () => {
    onCreating(true);
    await connection.create().then(onNew, sorry("A new chat could not be started."));
    onCreating(false);
  };
  const options = chat.sessions.map((s) => ({
    value: s.key,
    label: s.title,
    hint: chat.busy.includes(s.key) ? "being answered" : undefined,
  }));
  if (!current) options.unshift({ value: chat.current, label: title, hint: undefined });

  return (
    <header className="flex min-h-12 shrink-0 items-center gap-1 border-b border-line px-2">
      <Menu
        align="start"
        trigger={
          <button
            type="button"
            aria-label={`Chat: ${title}. Switch to another chat`}
            className="flex min-h-9 min-w-0 items-center gap-1.5 rounded-md px-2 text-sm font-semibold hover:bg-sunken"
          >
            <span className="truncate">{title}</span>
            <ChevronIcon className="size-4 shrink-0" />
          </button>
        }
      >
        <div className="max-w-[min(22rem,85vw)]">
          <MenuRadio label="Chats" value={chat.current} onChange={(key) => connection.open(key)} options={options} />
        </div>
      </Menu>
      <Badge facts={facts} />
      <span className="flex-1" />
      <IconButton label="New chat" disabled={!open || creating} onClick={() => void create()}>
        <PlusIcon />
      </IconButton>
      <Menu
        trigger={
          <IconButton label="More actions for this chat">
            <MoreIcon />
          </IconButton>
        }
      >
        <MenuItem icon={<SearchIcon className="size-4" />} onSelect={onSearch}>
          Search…
        </MenuItem>
        <MenuItem icon={<EditIcon className="size-4" />} disabled={!open} onSelect={() => setDialog("rename")}>
          Rename…
        </MenuItem>
        <MenuItem
          icon={<SaveIcon className="size-4" />}
          disabled={!open}
          onSelect={() => setDialog("export")}
          hint={open ? undefined : "only while the desktop runs"}
        >
          Export as Markdown…
        </MenuItem>
        <MenuItem
          icon={<CheckIcon className="size-4" />}
          disabled={!open}
          onSelect={() => setDialog("allowed")}
          hint={open ? undefined : "only while the desktop runs"}
        >
          {listName}
        </MenuItem>
        <MenuSeparator />
        <MenuItem
          icon={<TrashIcon className="size-4" />}
          danger
          disabled={!open || chat.current === chat.main}
          onSelect={() => setDialog("delete")}
          hint={chat.current === chat.main ? "the main chat can't be deleted" : undefined}
        >
          Delete…
        </MenuItem>
      </Menu>
      {dialog === "rename" && <Rename connection={connection} session={chat.current} title={title} onClose={close} />}
      <ExportDialog
        open={dialog === "export"}
        onClose={close}
        connection={connection}
        session={chat.current}
        title={title}
        desktop={name}
      />
      {dialog === "allowed" && <AllowedDialog connection={connection} onClose={close} />}
      <ConfirmDialog
        open={dialog === "delete"}
        onClose={close}
        title={`Delete “${title}”?`}
        action="Delete"
        onConfirm={async () => {
          try {
            await connection.remove(chat.current);
          } catch (error) {
            sorry("The chat could not be deleted.")(error);
            throw error; // the dialog stays open
          }
        }}
      >
        This deletes its messages from the machine and your unsent messages here. It cannot be undone.
      </ConfirmDialog>
    </header>
  );
}

function Rename({
  connection,
  session,
  title,
  onClose,
}: {
  connection: ChatConnection;
  session: string;
  title: string;
  onClose: () => void;
}) {
  const [name, setName] = useState(title);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string>();
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    if (name.trim() === "") return setError("A chat needs a name.");
    setBusy(true);
    try {
      await connection.rename(session, name.trim());
      onClose();
    } catch (failure) {
      setError(failure instanceof Error ? failure.message : "The chat could not be renamed.");
      setBusy(false);
    }
  };
  return (
    <Dialog open onClose={onClose} title="Rename this chat">
      <form onSubmit={(e) => void submit(e)} className="mt-3 flex flex-col gap-4">
        <TextField label="Name" value={name} onChange={setName} error={error} maxLength={100} autoComplete="off" />
        <div className="flex flex-wrap justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" variant="primary" busy={busy}>
            Rename
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
