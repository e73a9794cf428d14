import { useInfiniteQuery, useMutation, useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { api, call, idempotencyKey, sentence, type Schemas } from "@/api/client";
import { instancesQuery, keysQuery, queryClient, reportQuery } from "@/api/queries";
import { StartButton } from "@/instances/StartButton";
import { PageTitle } from "@/shell";
import { Badge, Banner, Button, ConfirmDialog, Dialog, Spinner, TextField, toast, useWrong } from "@/ui";
import { Ago } from "@/ui/time";
import { probesOf, verdict, type Probe } from "@/diagnostics/probes";

type Provider = { id: string; name: string; plugin: boolean };

export function KeysPage() {
  const keys = useQuery(keysQuery);
  const [editing, edit] = useState<Provider>();
  const [removing, remove] = useState<Provider>();
  const stored = (id: string) => keys.data?.keys.find((k) => k.provider === id);
  const drop = useMutation({
    mutationFn: (p: Provider) =>
      call(
        api.DELETE("/api/user/api-keys/{provider}", { params: { path: { provider: p.id }, header: idempotencyKey() } }),
      ),
    onSettled: () => void queryClient.invalidateQueries({ queryKey: ["keys"] }),
    onError: (error) => toast({ tone: "bad", title: "Not removed", detail: sentence(error) }),
  });
  // The machines ask the providers, so one must be running.
  const instances = useInfiniteQuery(instancesQuery(false));
  const desktops = instances.data?.pages.flatMap((p) => p.instances) ?? [];
  const ready = desktops.find((i) => i.ready && i.status === "running");
  const stopped = desktops.find((i) => i.status === "stopped");
  const check = useQuery({ ...reportQuery(ready?.id ?? "", "testapi"), enabled: false });
  // A provider's verdict is about the key that was tested, not about the key that replaced it.
  const [asked, askedOf] = useState<Schemas["StoredKey"][]>([]);
  const isOld = (id: string) => asked.find((k) => k.provider === id)?.updated_at !== stored(id)?.updated_at;
  const test = async () => {
    const now = await keys.refetch(); // a key may have been added since
    askedOf(now.data?.keys ?? []);
    await check.refetch();
  };
  const probes = check.data === undefined ? undefined : probesOf(check.data);
  // Providers with a key first; then in the server's order.
  const providers = (keys.data?.available ?? []).toSorted((a, b) => Number(!!stored(b.id)) - Number(!!stored(a.id)));
  return (
    <>
      <PageTitle
        action={
          keys.data &&
          keys.data.keys.length > 0 && (
            <Button
              busy={check.isFetching}
              disabled={!ready}
              title={ready ? `Tests from ${ready.name}` : "A desktop must be ready first"}
              onClick={() => void test()}
            >
              Test the keys
            </Button>
          )
        }
      >
        API keys
      </PageTitle>
      <p className="mb-6 max-w-2xl text-muted">
        The agent uses a model from one of these providers, paid for with your key. Keys are stored encrypted and never
        shown again. Running desktops receive them without a restart and keep them only in memory.
      </p>
      {keys.data && keys.data.keys.length > 0 && instances.data && !ready && (
        <Banner tone="info" className="mb-4" action={stopped && <StartButton instance={stopped} size="small" />}>
          Testing the keys needs a desktop that is ready.{stopped && ` ${stopped.name} is stopped.`}
        </Banner>
      )}
      {keys.isPending && <Spinner label="Loading…" />}
      {keys.error && (
        <Banner
          tone="bad"
          action={
            <Button size="small" onClick={() => void keys.refetch()}>
              Try again
            </Button>
          }
        >
          {sentence(keys.error)}
        </Banner>
      )}
      {check.error && (
        <Banner tone="bad" className="mb-4">
          {sentence(check.error)}
        </Banner>
      )}
      {keys.data && keys.data.keys.length === 0 && (
        <Banner tone="info" className="mb-4" title="No key yet">
          Add at least one. Without a key, the agent replies but has no model to use.
        </Banner>
      )}
      <ul className="divide-y divide-line rounded-xl border border-line bg-panel">
        {providers.map((p) => (
          <Row
            key={p.id}
            provider={p}
            stored={stored(p.id)}
            probe={isOld(p.id) ? undefined : probes?.find((x) => x.provider === p.id)}
            onEdit={() => edit(p)}
            onRemove={() => remove(p)}
          />
        ))}
      </ul>
      {editing && <KeyDialog provider={editing} replaces={!!stored(editing.id)} onClose={() => edit(undefined)} />}
      <ConfirmDialog
        open={removing !== undefined}
        onClose={() => remove(undefined)}
        title={`Remove the key for ${removing?.name ?? ""}?`}
        action="Remove"
        onConfirm={async () => {
          if (removing) await drop.mutateAsync(removing);
        }}
      >
        Running desktops delete it immediately. The key stays valid at the provider; revoke it there if it may have
        leaked.
      </ConfirmDialog>
    </>
  );
}

function Row({
  provider: p,
  stored,
  probe,
  onEdit,
  onRemove,
}: {
  provider: Provider;
  stored: Schemas["StoredKey"] | undefined;
  probe: Probe | undefined;
  onEdit: () => void;
  onRemove: () => void;
}) {
  return (
    <li className="flex flex-wrap items-center gap-x-4 gap-y-2 px-4 py-3">
      <div className="min-w-0 flex-1 basis-48">
        <p className="flex flex-wrap items-center gap-2 font-medium">
          {p.name}
          {stored && <Badge tone="good">Stored</Badge>}
          {p.plugin && <Badge>Needs a plug-in</Badge>}
        </p>
        <p className="text-sm text-muted">
          {stored ? (
            <>
              Ends in <span className="font-mono text-ink">{stored.last4}</span>, updated <Ago at={stored.updated_at} />
            </>
          ) : p.plugin ? (
            "The agent on the machine needs this provider's plug-in."
          ) : (
            "No key"
          )}
        </p>
        {stored && probe && (
          <p role="status" className={`text-sm ${probe.result === "accepted" ? "text-good" : "text-warn"}`}>
            The provider {verdict(probe)}.
          </p>
        )}
      </div>
      <div className="flex gap-2">
        <Button size="small" onClick={onEdit}>
          {stored ? "Replace" : "Set key"}
          <span className="sr-only"> for {p.name}</span>
        </Button>
        {stored && (
          <Button size="small" variant="quiet" onClick={onRemove}>
            Remove<span className="sr-only"> the key for {p.name}</span>
          </Button>
        )}
      </div>
    </li>
  );
}

function KeyDialog({ provider: p, replaces, onClose }: { provider: Provider; replaces: boolean; onClose: () => void }) {
  const [key, setKey] = useState("");
  const { form, wrong, say } = useWrong<"key">();
  const store = useMutation({
    mutationFn: () =>
      call(
        api.POST("/api/user/api-keys", {
          params: { header: idempotencyKey() },
          body: { provider: p.id, api_key: key.trim() },
        }),
      ),
    onSuccess: () => {
      toast({
        tone: "good",
        title: `Key for ${p.name} stored`,
        detail: "Running desktops receive it within a few seconds.",
      });
      void queryClient.invalidateQueries({ queryKey: ["keys"] });
      onClose();
    },
    onError: (error) => say({ key: sentence(error) }),
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    say({ key: key.trim() ? undefined : "Paste the key here." });
    if (key.trim()) store.mutate();
  };
  return (
    <Dialog
      open
      onClose={onClose}
      title={`${replaces ? "Replace" : "Set"} the key for ${p.name}`}
      description={
        p.plugin ? "The agent needs a plug-in for this provider; without it the key is not used." : undefined
      }
    >
      <form ref={form} onSubmit={submit} className="flex flex-col gap-5" noValidate>
        {/* Not a password of this site: password managers should ignore it. */}
        <TextField
          label="API key"
          type="password"
          name="api-key"
          autoComplete="off"
          data-1p-ignore
          data-lpignore="true"
          data-bwignore
          spellCheck={false}
          value={key}
          onChange={setKey}
          error={wrong.key}
          hint="Only the format is checked here. “Test the keys” asks the provider from one of your desktops."
        />
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button variant="primary" type="submit" busy={store.isPending}>
            {replaces ? "Replace" : "Store"}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
