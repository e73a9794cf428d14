// The queries of the pages. None of them polls: api/live.ts refreshes what events change.
import { infiniteQueryOptions, QueryClient, queryOptions } from "@tanstack/react-query";
import { api, ApiError, call, type Instance } from "./client";

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: Infinity, // events report changes
      retry: (count, error) =>
        (error instanceof ApiError ? error.status === 0 || error.status === 502 || error.status === 503 : false) &&
        count < 5,
      retryDelay: (count) => Math.min(8_000, 500 * 2 ** count),
      networkMode: "always", // a server on this computer needs no network
      refetchOnWindowFocus: false,
    },
    mutations: { networkMode: "always" },
  },
});

/** The server's version and who may sign up; public. */
export const aboutQuery = queryOptions({
  queryKey: ["about"],
  queryFn: ({ signal }) => call(api.GET("/api", { signal })),
});

export const meQuery = queryOptions({
  queryKey: ["me"],
  queryFn: ({ signal }) => call(api.GET("/api/auth/me", { signal })),
});

export const instancesQuery = (terminated: boolean) =>
  infiniteQueryOptions({
    queryKey: ["instances", { terminated }],
    queryFn: ({ signal, pageParam }) =>
      call(
        api.GET("/api/instances", {
          params: {
            query: {
              ...(terminated ? { include: "terminated" as const } : {}),
              ...(pageParam ? { cursor: pageParam } : {}),
            },
          },
          signal,
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor,
  });

export const instanceQuery = (id: string) =>
  queryOptions({
    queryKey: ["instance", id],
    queryFn: ({ signal }): Promise<Instance> =>
      call(api.GET("/api/instances/{id}", { params: { path: { id } }, signal })),
  });

/** Newest first: live events are added at the top. */
export const historyQuery = (id: string) =>
  infiniteQueryOptions({
    queryKey: ["history", id],
    queryFn: ({ signal, pageParam }) =>
      call(
        api.GET("/api/instances/{id}/history", {
          params: { path: { id }, query: { limit: 100, order: "desc", ...(pageParam ? { cursor: pageParam } : {}) } },
          signal,
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor,
  });

/** The history of the account itself, newest first. */
export const accountHistoryQuery = infiniteQueryOptions({
  queryKey: ["account-history"],
  queryFn: ({ signal, pageParam }) =>
    call(
      api.GET("/api/auth/history", {
        params: { query: { limit: 20, order: "desc", ...(pageParam ? { cursor: pageParam } : {}) } },
        signal,
      }),
    ),
  initialPageParam: "",
  getNextPageParam: (page) => page.next_cursor,
});

export const sessionsQuery = queryOptions({
  queryKey: ["sessions"],
  queryFn: ({ signal }) => call(api.GET("/api/auth/sessions", { signal })),
});

export const tokensQuery = queryOptions({
  queryKey: ["tokens"],
  queryFn: ({ signal }) => call(api.GET("/api/auth/tokens", { signal })),
});

export const keysQuery = queryOptions({
  queryKey: ["keys"],
  queryFn: ({ signal }) => call(api.GET("/api/user/api-keys", { signal })),
});

/** Reads a report of an instance's machine as text. The user asks for it; it is never cached. */
export const reportQuery = (id: string, report: "log" | "check" | "debug" | "testapi") =>
  queryOptions({
    queryKey: ["report", id, report],
    queryFn: async ({ signal }) => {
      const text = await call(
        api.GET("/api/instances/{id}/debug/{report}", { params: { path: { id, report } }, parseAs: "text", signal }),
      );
      return text as string;
    },
    gcTime: 0,
    retry: false,
  });

/** The available sizes, and how many desktops the account may have. */
export const typesQuery = queryOptions({
  queryKey: ["types"],
  queryFn: ({ signal }) => call(api.GET("/api/instance-types", { signal })),
});
