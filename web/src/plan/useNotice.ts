import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { instancesQuery } from "@/api/queries";
import { holders } from "@/instances/quota";
import { useNow } from "@/ui/time";
import { offersQuery, planQuery } from "./queries";
import { noticeOf, type Notice } from "./view";

/** Returns that desktops stop because of the plan, or cannot be started, at this time; undefined: neither. */
export function useNotice(): Notice | undefined {
  const plan = useQuery(planQuery).data;
  const config = useQuery(offersQuery).data;
  const list = useInfiniteQuery(instancesQuery(false)).data;
  const now = useNow();
  return plan && noticeOf(plan, holders(list?.pages.flatMap((p) => p.instances) ?? []), now, config);
}
