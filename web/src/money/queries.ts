// The queries of prices, usage and budgets. Costs grow without an event, so pages ask again when they are opened.
import { queryOptions } from "@tanstack/react-query";
import { api, call } from "@/api/client";
import type { paths } from "@/api/schema";

type Answer<P extends "/api/usage" | "/api/prices" | "/api/budgets"> =
  paths[P]["get"]["responses"][200]["content"]["application/json"];

export type Prices = Answer<"/api/prices">;
export type Usage = Answer<"/api/usage">;
export type Budgets = Answer<"/api/budgets">;

export const pricesQuery = queryOptions({
  queryKey: ["prices"],
  queryFn: ({ signal }): Promise<Prices> => call(api.GET("/api/prices", { signal })),
});

/** The usage of a month such as 2026-11. Months and days are those of UTC. */
export const usageQuery = (month: string) =>
  queryOptions({
    queryKey: ["usage", month],
    queryFn: ({ signal }): Promise<Usage> => call(api.GET("/api/usage", { params: { query: { month } }, signal })),
    staleTime: 0,
  });

export const budgetsQuery = queryOptions({
  queryKey: ["budgets"],
  queryFn: ({ signal }): Promise<Budgets> => call(api.GET("/api/budgets", { signal })),
  staleTime: 0,
});
