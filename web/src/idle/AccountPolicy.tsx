// When the account's desktops stop by themselves, unless they have their own policy.
import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { sentence, type Schemas } from "@/api/client";
import { Banner, Button, Spinner, toast } from "@/ui";
import { policyWords } from "./outlook";
import { PolicyFields } from "./PolicyFields";
import { accountPolicyQuery, useSetAccountPolicy } from "./queries";
import { usePolicyForm } from "./usePolicyForm";

export function AccountPolicy() {
  const account = useQuery(accountPolicyQuery);
  if (account.data) return <Shown account={account.data} />;
  if (account.error)
    return (
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
    );
  return <Spinner label="Loading…" />;
}

function Shown({ account }: { account: Schemas["AccountIdlePolicy"] }) {
  const [changing, change] = useState(false);
  return (
    <div className="flex flex-col items-start gap-3 text-sm">
      <p>
        {policyWords(account.policy)}
        {!account.own_policy &&
          " This is the server's default. It does not apply to desktops on the server's own computer."}
      </p>
      {changing ? (
        <Form account={account} onClose={() => change(false)} />
      ) : (
        <Button onClick={() => change(true)}>Change</Button>
      )}
    </div>
  );
}

function Form({ account, onClose }: { account: Schemas["AccountIdlePolicy"]; onClose: () => void }) {
  const { form, fields, setFields, wrong, read, refused } = usePolicyForm(account.policy);
  const set = useSetAccountPolicy();
  const [failed, setFailed] = useState<string>();
  const save = (policy: Schemas["IdlePolicy"] | null) => {
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
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const policy = read();
    if (policy) save(policy);
  };
  return (
    <form ref={form} onSubmit={submit} noValidate className="flex w-full max-w-md flex-col gap-5">
      <PolicyFields
        fields={fields}
        onChange={setFields}
        wrong={wrong}
        shortest={account.shortest_s}
        withKeep={fields.keep !== ""}
      />
      {failed && <Banner tone="bad">{failed}</Banner>}
      <div className="flex flex-wrap gap-2">
        <Button variant="primary" type="submit" busy={set.isPending}>
          Save
        </Button>
        <Button onClick={onClose}>Cancel</Button>
        {account.own_policy && (
          <Button variant="quiet" disabled={set.isPending} onClick={() => save(null)}>
            Use the server's default
          </Button>
        )}
      </div>
    </form>
  );
}
