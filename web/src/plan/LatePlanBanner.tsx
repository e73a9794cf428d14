import { useQuery } from "@tanstack/react-query";
import { useMatch } from "@tanstack/react-router";
import { part, usePart } from "@/ui/later";
import { planQuery } from "./queries";

const banner = part(async () => (await import("./PlanBanner")).PlanBanner);

/** Below the bar: that desktops stop because of the plan. The page Plan says it itself. */
export function LatePlanBanner() {
  const plan = useQuery(planQuery).data;
  const there = useMatch({ from: "/signed-in/framed/plan", shouldThrow: false, select: () => true }) ?? false;
  const wanted = !there && plan?.billing === true && (plan.access.level !== "full" || plan.access.stop_at !== null);
  const { value: Banner } = usePart(banner, wanted);
  return wanted && Banner ? <Banner /> : null;
}
