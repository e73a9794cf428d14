import { Link } from "@tanstack/react-router";
import { useState, type FormEvent, type ReactNode } from "react";
import type { Instance } from "@/api/client";
import {
  Button,
  ConfirmDialog,
  Dialog,
  IconButton,
  Menu,
  MenuItem,
  MenuLink,
  MenuSeparator,
  TextField,
  toast,
  useWrong,
} from "@/ui";
import { EditIcon, HistoryIcon, MoreIcon, PulseIcon, StopIcon, TrashIcon } from "@/ui/icons";
import { possible, useRename, useTerminate } from "./commands";
import { useStopping } from "./useStopping";

/** The actions for an instance, then other items. Stop is included if there is no button for it beside the menu. */
export function InstanceMenu({
  instance: i,
  withStop,
  children,
}: {
  instance: Instance;
  withStop?: boolean;
  children?: ReactNode;
}) {
  const [asking, ask] = useState<"rename" | "terminate">();
  const terminate = useTerminate();
  const { stop, dialog } = useStopping(i);
  const can = possible(i);
  return (
    <>
      <Menu
        trigger={
          <IconButton label={`More actions for ${i.name}`}>
            <MoreIcon />
          </IconButton>
        }
      >
        {withStop && can.stop && (
          <MenuItem icon={<StopIcon />} onSelect={stop}>
            Stop
          </MenuItem>
        )}
        {can.rename && (
          <MenuItem icon={<EditIcon />} onSelect={() => ask("rename")}>
            Rename…
          </MenuItem>
        )}
        <MenuLink icon={<HistoryIcon />} render={<Link to="/desktops/$id/about" params={{ id: i.id }} />}>
          History
        </MenuLink>
        <MenuLink
          icon={<PulseIcon />}
          render={<Link to="/desktops/$id/about" params={{ id: i.id }} search={{ tab: "diagnostics" }} />}
        >
          Diagnostics
        </MenuLink>
        {can.terminate && (
          <>
            <MenuSeparator />
            <MenuItem danger icon={<TrashIcon />} onSelect={() => ask("terminate")}>
              Terminate…
            </MenuItem>
          </>
        )}
        {children}
      </Menu>
      {dialog}
      {asking === "rename" && <RenameDialog instance={i} onClose={() => ask(undefined)} />}
      <ConfirmDialog
        open={asking === "terminate"}
        onClose={() => ask(undefined)}
        title={`Terminate ${i.name}?`}
        action="Terminate"
        typed={i.name}
        onConfirm={async () => {
          await terminate.mutateAsync({ instance: i, arg: undefined });
          toast({ title: `${i.name} is being terminated`, detail: "Its history is kept." });
        }}
      >
        This deletes the machine and everything on its disk, with its chats. It cannot be undone. To keep the desktop
        and pay less, stop it instead.
      </ConfirmDialog>
    </>
  );
}

const controls = /\p{Cc}|[\u202a-\u202e\u2066-\u2069]/u;

/** Returns what is wrong with a name, in the server's words. */
export function nameError(name: string, may0 = false): string | undefined {
  const n = Array.from(name.trim()).length;
  if (n === 0 && !may0) return "Enter a name.";
  if (n > 64) return "Use at most 64 characters.";
  return controls.test(name) ? "Control characters are not allowed." : undefined;
}

function RenameDialog({ instance: i, onClose }: { instance: Instance; onClose: () => void }) {
  const [name, setName] = useState(i.name);
  const { form, wrong, say } = useWrong<"name">();
  const rename = useRename();
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const no = nameError(name);
    say({ name: no });
    if (!no) rename.mutate({ instance: i, arg: name.trim() }, { onSuccess: onClose });
  };
  return (
    <Dialog open onClose={onClose} title="Rename the desktop">
      <form ref={form} onSubmit={submit} className="flex flex-col gap-5" noValidate>
        <TextField
          label="Name"
          name="name"
          value={name}
          onChange={setName}
          error={wrong.name}
          autoComplete="off"
          maxLength={200}
        />
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button variant="primary" type="submit" busy={rename.isPending}>
            Rename
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
