import { queryOptions, useQuery } from "@tanstack/react-query";
import { refusal, signedFetch, type Instance } from "@/api/client";
import type { BootTimes } from "./phases";

export const bootTimesQuery = (type: string) =>
  queryOptions({
    queryKey: ["boot-times", type],
    queryFn: async ({ signal }) => {
      const answer = await signedFetch(`/api/boot-times?instance_type=${encodeURIComponent(type)}`, { signal });
      if (!answer.ok) throw await refusal(answer);
      return (await answer.json()) as { launch: BootTimes; start: BootTimes };
    },
    staleTime: 60_000,
  });

/** What boots like this one took here; undefined while that is not known. */
export function useBootTimes(i: Instance): BootTimes | undefined {
  const { data } = useQuery(bootTimesQuery(i.instance_type));
  return data && (i.status === "launching" ? data.launch : data.start);
}
