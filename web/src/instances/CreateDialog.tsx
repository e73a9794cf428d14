import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState, type FormEvent } from "react";
import { ApiError, sentence, type Instance } from "@/api/client";
import { instancesQuery, typesQuery } from "@/api/queries";
import { PriceLine } from "@/money/PriceLine";
import { gateOf } from "@/plan/gate";
import { LargerPlan } from "@/plan/LargerPlan";
import { planQuery } from "@/plan/queries";
import { Banner, Button, buttonClass, Dialog, Spinner, TextField, useWrong } from "@/ui";
import { useCreate } from "./commands";
import { StatusBadge } from "./InstanceCard";
import { nameError } from "./name";
import { holders, isFull, quotaWords } from "./quota";

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
  const gate = gateOf(useQuery(planQuery).data);
  const list = useInfiniteQuery(instancesQuery(false));
  const held = holders(list.data?.pages.flatMap((p) => p.instances) ?? []);
  const quota = list.data?.pages[0]?.quota;
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
  const refused = create.error instanceof ApiError && create.error.code === "quota_exceeded";
  if (gate)
    return (
      <div className="flex flex-col gap-5">
        <Banner tone="info">{gate.why}</Banner>
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Close</Button>
          <Link to="/plan" className={buttonClass("primary")}>
            {gate.action}
          </Link>
        </div>
      </div>
    );
  if (isFull(quota))
    return (
      <div className="flex flex-col gap-5">
        <Banner tone={refused ? "bad" : "info"} action={<LargerPlan />}>
          {refused ? sentence(create.error) : quotaWords(quota)}
        </Banner>
        <Held list={held} />
        <div className="flex justify-end">
          <Button onClick={onClose}>Close</Button>
        </div>
      </div>
    );
  const only = types.data?.types.length === 1 ? types.data.types[0] : undefined;
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
      {only ? (
        <div className="text-sm">
          <p className="text-muted">{only.summary}</p>
          <PriceLine type={only.id} />
        </div>
      ) : (
        <fieldset>
          <legend className="mb-1.5 text-sm font-medium">Size</legend>
          {types.isPending && <Spinner label="Loading…" />}
          {types.error && <Banner tone="bad">{sentence(types.error)}</Banner>}
          <div className="flex flex-col gap-2">
            {types.data?.types.map((t) => (
              <label
                key={t.id}
                className="flex items-start gap-3 rounded-lg border border-line p-3 has-checked:border-accent-ink has-checked:bg-accent-soft has-disabled:cursor-default has-disabled:bg-sunken"
              >
                <input
                  type="radio"
                  name="type"
                  value={t.id}
                  checked={t.id === chosen}
                  disabled={t.in_plan === false}
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
                  {t.in_plan === false ? (
                    <span className="block font-medium">Not in your plan.</span>
                  ) : (
                    <PriceLine type={t.id} />
                  )}
                </span>
              </label>
            ))}
            {types.data?.types.some((t) => t.in_plan === false) && <LargerPlan className="self-start" />}
          </div>
        </fieldset>
      )}
      {create.error && (
        <>
          <Banner tone="bad" action={create.error instanceof ApiError && create.error.status === 402 && <LargerPlan />}>
            {sentence(create.error)}
          </Banner>
          {refused && <Held list={held} />}
        </>
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

/** The desktops that use up the quota. The menu of each one's page can terminate it. */
function Held({ list }: { list: Instance[] }) {
  return (
    <ul aria-label="Your desktops" className="divide-y divide-line rounded-lg border border-line text-sm">
      {list.map((i) => (
        <li key={i.id} className="flex items-center gap-3 px-3 py-2">
          <Link
            to="/desktops/$id/about"
            params={{ id: i.id }}
            className="min-w-0 flex-1 break-words font-medium text-accent-ink underline"
          >
            {i.name}
          </Link>
          <StatusBadge instance={i} />
        </li>
      ))}
    </ul>
  );
}
