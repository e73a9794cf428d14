// The actions on an instance, as mutations that report failures.
import { useMutation } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { api, ApiError, call, idempotencyKey, sentence, type Instance } from "@/api/client";
import { newID } from "@/api/id";
import { queryClient } from "@/api/queries";
import { toast } from "@/ui";

// Not awaited: without a server it retries for a long time, and the button would stay busy.
function refresh(id: string) {
  void queryClient.invalidateQueries({ queryKey: ["instances"] });
  void queryClient.invalidateQueries({ queryKey: ["instance", id] });
  void queryClient.invalidateQueries({ queryKey: ["history", id] });
}

const at = (id: string) => ({ params: { path: { id }, header: idempotencyKey() } });

function useCommand<T>(failed: string, run: (i: Instance, arg: T) => Promise<unknown>) {
  const navigate = useNavigate();
  return useMutation({
    mutationFn: ({ instance, arg }: { instance: Instance; arg: T }) => run(instance, arg),
    onSettled: (_d, _e, { instance }) => refresh(instance.id),
    onError: (error) =>
      toast({
        tone: "bad",
        title: failed,
        detail: sentence(error),
        ...(error instanceof ApiError && error.status === 402
          ? { action: { label: "See your plan", onSelect: () => void navigate({ to: "/plan" }) } }
          : {}),
      }),
  });
}

export const useStart = () =>
  useCommand<void>("Not started", (i) => call(api.POST("/api/instances/{id}/start", at(i.id))));
export const useStop = () =>
  useCommand<void>("Not stopped", (i) => call(api.POST("/api/instances/{id}/stop", at(i.id))));
export const useTerminate = () =>
  useCommand<void>("Not terminated", (i) => call(api.DELETE("/api/instances/{id}", at(i.id))));
export const useRename = () =>
  useCommand<string>("Not renamed", (i, name) =>
    call(api.PATCH("/api/instances/{id}", { ...at(i.id), body: { name } })),
  );

/** Requests a new instance. After a request without an answer, another call repeats the same request. */
export function useCreate() {
  const [key, renew] = useState(newID);
  return useMutation({
    mutationFn: (body: { name?: string; instance_type?: string }) =>
      call(api.POST("/api/instances", { params: { header: { "Idempotency-Key": key } }, body })),
    onError: (error) => {
      if (!(error instanceof ApiError) || error.status < 400 || error.status >= 500) return;
      renew(newID()); // a refusal is final for its key
      void queryClient.invalidateQueries({ queryKey: ["instances"] }); // another tab may have used up the quota
      if (error.status === 402) void queryClient.invalidateQueries({ queryKey: ["plan"] });
    },
    onSuccess: created,
  });
}

/** Shows a new instance. The response is refetched: events of the boot may have arrived before it. */
export function created(instance: Instance) {
  queryClient.setQueryData(["instance", instance.id], instance);
  refresh(instance.id);
}

/** The actions that an instance's buttons offer in its current state. */
export function possible(i: Instance) {
  return {
    open: i.status === "running" || i.status === "launching" || i.status === "starting",
    start: i.status === "stopped",
    stop: i.status === "running",
    rename: i.status !== "terminated" && i.status !== "terminating" && i.status !== "failed",
    /** Only its line in the list is left. */
    remove: i.status === "failed",
    terminate: i.status !== "terminated" && i.status !== "terminating" && i.status !== "failed",
  };
}
