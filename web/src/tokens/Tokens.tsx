import { useInfiniteQuery, useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, call, sentence, type Schemas } from "@/api/client";
import { instancesQuery, queryClient, tokensQuery } from "@/api/queries";
import { Badge, Banner, Button, ConfirmDialog, Spinner, toast } from "@/ui";
import { Ago } from "@/ui/time";
import { desktopsOf, expiry, scopes } from "./scopes";
import { TokenDialog } from "./TokenDialog";

type Token = Schemas["Token"];

/** The account's API tokens: a list, and the way to make and revoke them. */
export function Tokens({ className, email }: { className: string; email: string }) {
  const list = useQuery(tokensQuery);
  const instances = useInfiniteQuery(instancesQuery(false));
  const desktops = instances.data?.pages.flatMap((p) => p.instances) ?? [];
  const [making, make] = useState(false);
  const [ending, end] = useState<Token>();
  const revoke = useMutation({
    mutationFn: (t: Token) => call(api.DELETE("/api/auth/tokens/{id}", { params: { path: { id: t.id } } })),
    onSettled: () => void queryClient.invalidateQueries({ queryKey: ["tokens"] }),
    onError: (error) => toast({ tone: "bad", title: "The token could not be revoked", detail: sentence(error) }),
  });
  return (
    <section className={className} aria-labelledby="tokens">
      <div className="mb-1 flex flex-wrap items-center justify-between gap-2">
        <h2 id="tokens" className="text-lg font-semibold">
          API tokens
        </h2>
        <Button size="small" onClick={() => make(true)}>
          Make a token
        </Button>
      </div>
      <p className="text-sm text-muted">
        For your own programs, in place of your password. Their use is noted once a day.{" "}
        <a className="underline" href="/docs" target="_blank" rel="noreferrer">
          The API’s documentation
        </a>
      </p>
      {list.isPending && <Spinner label="Loading…" />}
      {list.error && (
        <Banner tone="bad" className="mt-3">
          {sentence(list.error)}
        </Banner>
      )}
      {list.data && list.data.tokens.length > 0 && (
        <ul className="mt-2 divide-y divide-line">
          {list.data.tokens.map((t) => (
            <li key={t.id} className="flex flex-wrap items-center gap-x-4 gap-y-1 py-3">
              <div className="min-w-0 flex-1 basis-56">
                <p className="font-medium break-words">
                  {t.name} {t.expired && <Badge>Expired</Badge>}
                </p>
                <p className="text-sm break-words text-muted">
                  {t.scopes.map((s) => scopes.find((x) => x.id === s)?.label ?? s).join(", ")}
                  {t.desktops &&
                    `; only for ${desktopsOf(t.desktops, desktops, instances.isSuccess && !instances.hasNextPage)}`}
                </p>
                <p className="text-sm break-words text-muted">
                  Made <Ago at={t.created_at} />, {expiry(t)},{" "}
                  {t.used_at ? (
                    <>
                      last used <Ago at={t.used_at} />
                    </>
                  ) : (
                    "not used yet"
                  )}
                </p>
              </div>
              <Button size="small" onClick={() => end(t)}>
                Revoke<span className="sr-only"> the token {t.name}</span>
              </Button>
            </li>
          ))}
        </ul>
      )}
      {making && (
        <TokenDialog
          desktops={desktops.filter((d) => d.status !== "failed")}
          email={email}
          onClose={() => make(false)}
        />
      )}
      <ConfirmDialog
        open={ending !== undefined}
        onClose={() => end(undefined)}
        title={`Revoke the token ${ending?.name ?? ""}?`}
        action="Revoke"
        onConfirm={async () => {
          if (ending) await revoke.mutateAsync(ending);
        }}
      >
        Programs that use it lose their access immediately.
      </ConfirmDialog>
    </section>
  );
}
