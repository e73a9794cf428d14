// Loaded later: over all pages, that desktops stop, or cannot be started.
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { instancesQuery } from "@/api/queries";
import { holders } from "@/instances/quota";
import { Banner, buttonClass } from "@/ui";
import { useNow } from "@/ui/time";
import { offersQuery, planQuery } from "./queries";
import { noticeOf } from "./view";

export function PlanBanner() {
  const plan = useQuery(planQuery).data;
  const config = useQuery(offersQuery).data;
  const list = useInfiniteQuery(instancesQuery(false)).data;
  const now = useNow();
  const notice = plan && noticeOf(plan, holders(list?.pages.flatMap((p) => p.instances) ?? []), now, config);
  if (!notice) return null;
  return (
    <Banner
      tone={notice.tone}
      title={notice.title}
      className="m-2 mb-0"
      action={
        <Link to="/plan" className={buttonClass("plain", "small")}>
          {notice.action}
        </Link>
      }
    >
      {notice.text}
    </Banner>
  );
}
