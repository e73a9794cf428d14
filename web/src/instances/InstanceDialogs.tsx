// Loaded later: the dialogs of a desktop's menu.
import { useState, type FormEvent } from "react";
import type { Instance } from "@/api/client";
import { Button, ConfirmDialog, Dialog, TextField, toast, useWrong } from "@/ui";
import { useRename, useTerminate } from "./commands";
import { nameError } from "./name";

type Props = { open: boolean; onClose: () => void; instance: Instance };

export function TerminateDialog({ open, onClose, instance: i }: Props) {
  const terminate = useTerminate();
  return (
    <ConfirmDialog
      open={open}
      onClose={onClose}
      title={`Terminate ${i.name}?`}
      action="Terminate"
      typed={i.name}
      onConfirm={async () => {
        await terminate.mutateAsync({ instance: i, arg: undefined });
        toast({ title: `${i.name} is being terminated`, detail: "Its history is kept." });
      }}
    >
      This deletes the machine and everything on its disk, with its chats. It cannot be undone. To keep the desktop and
      pay less, stop it instead.
    </ConfirmDialog>
  );
}

export function RenameDialog({ open, onClose, instance: i }: Props) {
  return (
    <Dialog open={open} onClose={onClose} title="Rename the desktop">
      <RenameForm instance={i} onClose={onClose} />
    </Dialog>
  );
}

function RenameForm({ instance: i, onClose }: Omit<Props, "open">) {
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
  );
}
