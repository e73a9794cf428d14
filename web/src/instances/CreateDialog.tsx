import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState, type FormEvent } from "react";
import { ApiError, sentence } from "@/api/client";
import { typesQuery } from "@/api/queries";
import { Banner, Button, Dialog, Spinner, TextField, useWrong } from "@/ui";
import { useCreate } from "./commands";
import { nameError } from "./InstanceMenu";

export function CreateDialog({ open, onClose }: { open: boolean; onClose: () => void }) {
  return (
    <Dialog open={open} onClose={onClose} title="New desktop" description="Starts immediately; you can watch it boot.">
      <Form onClose={onClose} />
    </Dialog>
  );
}

function Form({ onClose }: { onClose: () => void }) {
  const navigate = useNavigate();
  const types = useQuery(typesQuery);
  const create = useCreate();
  const [name, setName] = useState("");
  const { form, wrong, say } = useWrong<"name">();
  const [type, setType] = useState<string>();
  const chosen = type ?? types.data?.default;
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const no = nameError(name, true);
    say({ name: no });
    if (no) return;
    create.mutate(
      { ...(name.trim() ? { name: name.trim() } : {}), ...(chosen ? { instance_type: chosen } : {}) },
      { onSuccess: (i) => void navigate({ to: "/desktops/$id", params: { id: i.id }, replace: true }) }, // "Back" leads to the list, not to this dialog
    );
  };
  return (
    <form ref={form} onSubmit={submit} noValidate className="flex flex-col gap-5">
      <TextField
        label="Name"
        name="name"
        value={name}
        onChange={setName}
        error={wrong.name}
        placeholder="My desktop"
        autoComplete="off"
        maxLength={200}
        hint="You can rename it at any time."
      />
      <fieldset>
        <legend className="mb-1.5 text-sm font-medium">Size</legend>
        {types.isPending && <Spinner label="Loading…" />}
        {types.error && <Banner tone="bad">{sentence(types.error)}</Banner>}
        <div className="flex flex-col gap-2">
          {types.data?.types.map((t) => (
            <label
              key={t.id}
              className="flex items-start gap-3 rounded-lg border border-line p-3 has-checked:border-accent-ink has-checked:bg-accent-soft"
            >
              <input
                type="radio"
                name="type"
                value={t.id}
                checked={t.id === chosen}
                onChange={() => setType(t.id)}
                className="mt-1 size-4 accent-accent"
              />
              <span className="min-w-0 text-sm">
                <span className="font-medium">{t.id}</span>
                <span className="text-muted">
                  {" "}
                  · {t.vcpus} cores · {t.memory_gib} GB
                </span>
                <span className="block">{t.summary}</span>
              </span>
            </label>
          ))}
        </div>
      </fieldset>
      {create.error && (
        <Banner
          tone="bad"
          action={
            create.error instanceof ApiError &&
            create.error.code === "quota_exceeded" && (
              <Link to="/" onClick={onClose} className="font-medium underline">
                Choose one to terminate
              </Link>
            )
          }
        >
          {sentence(create.error)}
        </Banner>
      )}
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button variant="primary" type="submit" busy={create.isPending}>
          Create
        </Button>
      </div>
    </form>
  );
}
