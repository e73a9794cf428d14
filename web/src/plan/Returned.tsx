// The user comes back from Stripe: the server looks there, and the page says what it has found.
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { sentence } from "@/api/client";
import { Banner, Button, buttonClass, Spinner } from "@/ui";
import { useSync } from "./commands";
import { offersQuery, planQuery } from "./queries";
import { outcomeOf, type Return } from "./view";

export function Returned() {
  const { session_id, from } = useSearch({ from: "/signed-in/framed/plan" });
  const navigate = useNavigate({ from: "/plan" });
  const [came, come] = useState<Return>();
  const now: Return | undefined = session_id ? "paid" : from;
  if (now && now !== came) come(now);
  useEffect(() => {
    // What is bookmarked or opened again is the page alone.
    if (now) void navigate({ search: {}, replace: true });
  }, [now, navigate]);
  return came ? <Look key={came} from={came} /> : null;
}

function Look({ from }: { from: Return }) {
  const { mutate, isIdle, isPending, error } = useSync();
  const plan = useQuery(planQuery).data;
  const config = useQuery(offersQuery).data;
  useEffect(() => mutate(), [mutate]);
  if (isIdle || isPending)
    return (
      <div role="status" className="rounded-lg border border-line bg-sunken px-3 py-2.5 text-sm">
        <Spinner label="Checking with Stripe…" />
      </div>
    );
  const again = (
    <Button size="small" onClick={() => mutate()}>
      Check again
    </Button>
  );
  // Without an answer, the page shows what the server knew before.
  if (error)
    return (
      <Banner tone="warn" title="What you did at Stripe may not be shown yet." action={again}>
        {sentence(error)}
      </Banner>
    );
  const outcome = plan && outcomeOf(from, plan, config);
  if (!outcome) return null;
  return (
    <Banner
      tone={outcome.tone}
      title={outcome.title}
      action={
        outcome.create ? (
          <Link to="/" search={{ create: true }} className={buttonClass("primary", "small")}>
            Create a desktop
          </Link>
        ) : (
          outcome.again && again
        )
      }
    >
      {outcome.text}
    </Banner>
  );
}
