// Loaded later: that a reached budget keeps a desktop from running, and where to change that.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { budgetsQuery } from "@/money/queries";
import { Banner, buttonClass } from "@/ui";
import { reachedFor, reachedWords } from "./budgets";

export function BudgetNote({ id, className = "" }: { id: string; className?: string }) {
  const budgets = useQuery(budgetsQuery).data;
  const reached = budgets && reachedFor(id, budgets);
  if (!reached) return null;
  return (
    <Banner
      tone="warn"
      className={`text-left ${className}`}
      action={
        <Link to="/usage" hash="budgets" className={buttonClass("plain", "small")}>
          Change the budget
        </Link>
      }
    >
      {reachedWords(reached)}
    </Banner>
  );
}
