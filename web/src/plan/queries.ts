// The queries of plans and payments. Events refresh the plan; invoices are read from Stripe when they are shown.
import { queryOptions } from "@tanstack/react-query";
import { api, call } from "@/api/client";
import type { paths } from "@/api/schema";

type Answer<P extends "/api/payments/status" | "/api/payments/config" | "/api/payments/invoices"> =
  paths[P]["get"]["responses"][200]["content"]["application/json"];

export type Plan = Answer<"/api/payments/status">;
export type Config = Answer<"/api/payments/config">;
export type Invoice = Answer<"/api/payments/invoices">["invoices"][number];

/** What the account's plan allows, and what is due. Without billing, everything is allowed. */
export const planQuery = queryOptions({
  queryKey: ["plan"],
  queryFn: ({ signal }): Promise<Plan> => call(api.GET("/api/payments/status", { signal })),
});

/** The plans that the server offers. */
export const offersQuery = queryOptions({
  queryKey: ["offers"],
  queryFn: ({ signal }): Promise<Config> => call(api.GET("/api/payments/config", { signal })),
});

export const invoicesQuery = queryOptions({
  queryKey: ["invoices"],
  queryFn: ({ signal }) => call(api.GET("/api/payments/invoices", { signal })),
  staleTime: 0,
});
