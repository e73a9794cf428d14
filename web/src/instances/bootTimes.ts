import { queryOptions, useQuery } from "@tanstack/react-query";
import { api, call, type Instance } from "@/api/client";
import type { BootTimes } from "./phases";

export const bootTimesQuery = (type: string) =>
  queryOptions({
    queryKey: ["boot-times", type],
    queryFn: ({ signal }) => call(api.GET("/api/boot-times", { params: { query: { instance_type: type } }, signal })),
    staleTime: 60_000,
  });

/** What boots like this one took here; undefined while that is not known. */
export function useBootTimes(i: Instance): BootTimes | undefined {
  const { data } = useQuery(bootTimesQuery(i.instance_type));
  return data && (i.status === "launching" ? data.launch : data.start);
}
