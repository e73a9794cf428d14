// The commands about plans, and the ways to Stripe's pages and back.
import { useMutation } from "@tanstack/react-query";
import { useEffect } from "react";
import { api, call, sentence } from "@/api/client";
import { queryClient } from "@/api/queries";
import { toast } from "@/ui";
import { planQuery } from "./queries";
import type { PlanType } from "./view";

const here = (search = "") => `${location.origin}/app/plan${search}`;

/** Goes to a page of Stripe's. busy: for which argument it is on its way there. */
function useLeave<T>(failed: string, open: (arg: T) => Promise<string>) {
  const { mutate, reset, variables, isPending, isSuccess } = useMutation({
    mutationFn: async (arg: T) => location.assign(await open(arg)),
    onError: (error) => toast({ tone: "bad", title: failed, detail: sentence(error) }),
  });
  useEffect(() => {
    // "Back" may show this page as it was left: its buttons have to be free again.
    const shown = (e: PageTransitionEvent) => e.persisted && reset();
    addEventListener("pageshow", shown);
    return () => removeEventListener("pageshow", shown);
  }, [reset]);
  const leaves = isPending || isSuccess;
  return { go: (arg: T) => !leaves && mutate(arg), busy: leaves ? variables : undefined };
}

/** Opens the payment page of a plan; the same one again if it is open already. */
export const useCheckout = () =>
  useLeave("The payment page did not open", async (plan_type: PlanType) => {
    // The server adds the payment page's id to the first address.
    const body = { plan_type, success_url: here(), cancel_url: here("?from=canceled") };
    return (await call(api.POST("/api/payments/create-checkout", { body }))).checkout_url;
  });

/** Opens the customer portal; the argument is the control that asks for it. */
export const usePortal = () =>
  useLeave("The payment portal did not open", async (_for: string) => {
    const body = { return_url: here("?from=portal") };
    return (await call(api.POST("/api/payments/portal", { body }))).portal_url;
  });

// Not awaited: without a server it retries for a long time, and the button would stay busy.
function refresh() {
  for (const key of ["plan", "invoices"]) void queryClient.invalidateQueries({ queryKey: [key] });
}

const useChange = (failed: string, path: "/api/payments/cancel" | "/api/payments/resume") =>
  useMutation({
    mutationFn: () => call(api.POST(path)),
    onSuccess: ({ message }) => toast({ tone: "good", title: message }),
    onError: (error) => toast({ tone: "bad", title: failed, detail: sentence(error) }),
    onSettled: refresh,
  });

/** Cancels the plan at the end of its period. */
export const useCancel = () => useChange("Not canceled", "/api/payments/cancel");

/** Keeps a plan that was canceled. */
export const useKeep = () => useChange("Not kept", "/api/payments/resume");

/** Has the server look at Stripe. Stripe's own message to the server may arrive later. */
export const useSync = () =>
  useMutation({
    mutationFn: () => call(api.POST("/api/payments/sync")),
    onSuccess: (plan) => {
      queryClient.setQueryData(planQuery.queryKey, plan);
      for (const key of ["invoices", "types", "instances"]) void queryClient.invalidateQueries({ queryKey: [key] });
    },
  });
