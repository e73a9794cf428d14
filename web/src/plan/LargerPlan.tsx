import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { buttonClass } from "@/ui";
import { planQuery } from "./queries";

/** A link to the plans, where plans are required. */
export function LargerPlan({ className = "" }: { className?: string }) {
  return useQuery(planQuery).data?.billing ? (
    <Link to="/plan" className={buttonClass("plain", "small", className)}>
      See plans
    </Link>
  ) : null;
}
