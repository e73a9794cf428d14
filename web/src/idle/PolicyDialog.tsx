// When a desktop stops by itself: what would happen when, and its policy.
import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { sentence, type Instance, type Schemas } from "@/api/client";
import { instanceQuery } from "@/api/queries";
import { isLocal } from "@/instances/place";
import { Banner, Button, Dialog, Spinner, toast } from "@/ui";
import { OutlookLine } from "./OutlookLine";
import { policyWords, type Idle } from "./outlook";
import { PolicyFields } from "./PolicyFields";
import { accountPolicyQuery, useSetPolicy } from "./queries";
import { usePolicyForm } from "./usePolicyForm";

export function PolicyDialog({ open, onClose, instance }: { open: boolean; onClose: () => void; instance: Instance }) {
  const live = useQuery(instanceQuery(instance.id)).data ?? instance;
  const account = useQuery(accountPolicyQuery);
  return (
    <Dialog open={open} onClose={onClose} title={`When ${instance.name} stops by itself`}>
      {live.idle && account.data ? (
        <Form instance={live} idle={live.idle} account={account.data} onClose={onClose} />
      ) : account.error ? (
        <Banner
          tone="bad"
          action={
            <Button size="small" onClick={() => void account.refetch()}>
              Try again
            </Button>
          }
        >
          {sentence(account.error)}
        </Banner>
      ) : (
        <Spinner label="Loading…" />
      )}
    </Dialog>
  );
}

type FormProps = { instance: Instance; idle: Idle; account: Schemas["AccountIdlePolicy"]; onClose: () => void };

/** Returns what applies to a desktop without a policy of its own, in sentences. */
function defaultWords({ instance, idle, account }: Omit<FormProps, "onClose">): string {
  if (!idle.own_policy) return policyWords(idle.policy);
  // Without a policy of the account, desktops on the server's own computer never stop.
  if (isLocal(instance) && !account.own_policy) return "Never stops by itself.";
  return policyWords(account.policy);
}

function Form(props: FormProps) {
  const { instance: i, idle, account, onClose } = props;
  const [its, setIts] = useState(idle.own_policy);
  const { form, fields, setFields, wrong, read, refused } = usePolicyForm(idle.policy);
  const set = useSetPolicy(i.id);
  const [failed, setFailed] = useState<string>();
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const policy = its ? read() : null;
    if (policy === undefined) return;
    setFailed(undefined);
    set.mutate(policy, {
      onSuccess: () => {
        toast({ tone: "good", title: "Saved" });
        onClose();
      },
      onError: (error) => {
        if (!refused(error)) setFailed(sentence(error));
      },
    });
  };
  return (
    <form ref={form} onSubmit={submit} noValidate className="flex flex-col gap-5">
      <OutlookLine instance={i} />
      <fieldset className="flex flex-col gap-1">
        <legend className="sr-only">Policy</legend>
        {[
          { value: false, label: "As your account's desktops", hint: defaultWords(props) },
          { value: true, label: "Its own times", hint: undefined },
        ].map(({ value, label, hint }) => (
          <label key={label} className="flex items-start gap-2.5 py-1 text-sm">
            <input
              type="radio"
              name="policy"
              checked={its === value}
              onChange={() => setIts(value)}
              className="mt-0.5 size-4 shrink-0 accent-accent"
            />
            <span className="min-w-0">
              <span className="font-medium">{label}</span>
              {hint && <span className="block text-muted">{hint}</span>}
            </span>
          </label>
        ))}
      </fieldset>
      {its && (
        <PolicyFields fields={fields} onChange={setFields} wrong={wrong} shortest={account.shortest_s} withKeep />
      )}
      {failed && <Banner tone="bad">{failed}</Banner>}
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button variant="primary" type="submit" busy={set.isPending}>
          Save
        </Button>
      </div>
    </form>
  );
}
