// The account's idle policy, and the commands about idle stops.
import { queryOptions, useMutation } from "@tanstack/react-query";
import { api, call, idempotencyKey, sentence, type Instance } from "@/api/client";
import { queryClient } from "@/api/queries";
import { toast } from "@/ui";
import { msOf, type Policy } from "./outlook";
import { clock } from "./times";

export const accountPolicyQuery = queryOptions({
  queryKey: ["idle-policy"],
  queryFn: ({ signal }) => call(api.GET("/api/user/idle-policy", { signal })),
});

/** Shows what a command returned, and refreshes the lists. */
function keep(instance: Instance) {
  queryClient.setQueryData(["instance", instance.id], instance);
  void queryClient.invalidateQueries({ queryKey: ["instances"] });
  void queryClient.invalidateQueries({ queryKey: ["history", instance.id] });
}

/** Keeps a desktop running for an hour more. */
export const useExtend = () =>
  useMutation({
    mutationFn: (id: string) =>
      call(
        api.POST("/api/instances/{id}/extend", {
          params: { path: { id }, header: idempotencyKey() },
          body: { minutes: 60 },
        }),
      ),
    onSuccess: (i) => {
      keep(i);
      const until = msOf(i.idle?.extended_until);
      toast({
        tone: "good",
        title:
          until === undefined ? `${i.name} keeps running` : `${i.name} keeps running until ${clock(until, Date.now())}`,
      });
    },
    onError: (error) => toast({ tone: "bad", title: "Not extended", detail: sentence(error) }),
  });

/** Sets a desktop's own policy; null: the account's applies. */
export const useSetPolicy = (id: string) =>
  useMutation({
    mutationFn: (policy: Policy | null) =>
      call(
        api.PUT("/api/instances/{id}/idle-policy", {
          params: { path: { id }, header: idempotencyKey() },
          body: { policy },
        }),
      ),
    onSuccess: keep,
  });

/** Sets the policy of desktops without one of their own; null: the server's default applies. */
export const useSetAccountPolicy = () =>
  useMutation({
    mutationFn: (policy: Policy | null) =>
      call(api.PUT("/api/user/idle-policy", { params: { header: idempotencyKey() }, body: { policy } })),
    onSuccess: (now) => {
      queryClient.setQueryData(accountPolicyQuery.queryKey, now);
      for (const key of ["instances", "instance", "account-history"])
        void queryClient.invalidateQueries({ queryKey: [key] });
    },
  });
