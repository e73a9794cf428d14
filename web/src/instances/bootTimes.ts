import { queryOptions, useQuery } from "@tanstack/react-query";
import { api, call, type Instance } from "@/api/client";
import type { BootTimes } from "./phases";

const bootTimesQuery = (type: string) =>
  queryOptions({
    queryKey: ["boot-times", type],
    queryFn: ({ signal }) => call(api.GET("/api/boot-times", { params: { query: { instance_type: type } }, signal })),
    staleTime: 60_000,
  });

/** Returns how long similar boots took here; undefined while unknown. */
export function useBootTimes(i: Instance): BootTimes | undefined {
  const { data } = useQuery(bootTimesQuery(i.instance_type));
  if (!data) return undefined;
  if (i.status === "launching") return data.launch;
  if (i.status === "starting") return data.start;
  // Running and not ready: a machine this young has not been stopped and started yet.
  const age = Date.parse(i.phase_since) - Date.parse(i.created_at);
  return age < 60_000 + 2 * (data.launch.total?.p95_ms ?? 0) ? data.launch : data.start;
}
