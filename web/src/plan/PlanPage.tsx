import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { sentence } from "@/api/client";
import { typesQuery } from "@/api/queries";
import { PageTitle } from "@/shell";
import { Banner, Button, buttonClass, EmptyState, Spinner } from "@/ui";
import { CardIcon } from "@/ui/icons";
import { Current } from "./Current";
import { Invoices } from "./Invoices";
import { Offers } from "./Offers";
import { offersQuery, planQuery } from "./queries";
import { Returned } from "./Returned";
import { card } from "./style";

export function PlanPage() {
  const plan = useQuery(planQuery);
  const config = useQuery(offersQuery);
  // A desktop on the server's own computer has no size.
  const types = useQuery(typesQuery).data?.types.flatMap(({ id }) => (id === "local" ? [] : [id]));
  const wrong = plan.data ? undefined : plan.error;
  return (
    <>
      <PageTitle>Plan</PageTitle>
      <div className="flex flex-col gap-6">
        <Returned />
        {wrong && <NotLoaded error={wrong} again={() => void plan.refetch()} />}
        {plan.isPending && (
          <p className="py-14 text-center text-muted">
            <Spinner label="Loading…" />
          </p>
        )}
        {plan.data && !plan.data.billing && <NoPlans />}
        {plan.data?.billing && (
          <>
            <Current plan={plan.data} config={config.data} types={types} />
            {config.data ? (
              <Offers plan={plan.data} config={config.data} types={types} />
            ) : (
              config.error && <NotLoaded error={config.error} again={() => void config.refetch()} />
            )}
            {plan.data.portal && <Invoices />}
            <Rules metered={config.data?.metered ?? false} />
          </>
        )}
      </div>
    </>
  );
}

function NotLoaded({ error, again }: { error: Error; again: () => void }) {
  return (
    <Banner
      tone="bad"
      action={
        <Button size="small" onClick={again}>
          Try again
        </Button>
      }
    >
      {sentence(error)}
    </Banner>
  );
}

function NoPlans() {
  return (
    <div className={card}>
      <EmptyState
        icon={<CardIcon className="size-10" />}
        title="You do not need a plan"
        action={
          <Link to="/" className={buttonClass("primary")}>
            Go to desktops
          </Link>
        }
      >
        <p>This server charges nothing. You can create and start desktops without a plan.</p>
      </EmptyState>
    </div>
  );
}

/** What happens when a payment fails, and when a plan ends or becomes smaller. */
function Rules({ metered }: { metered: boolean }) {
  return (
    <section className={card} aria-labelledby="rules">
      <h2 id="rules" className="mb-1 text-lg font-semibold">
        What happens when…
      </h2>
      <p className="text-sm text-muted">
        In no case is anything deleted: desktops, their disks and files, and your chats are kept.
      </p>
      <dl className="mt-4 grid gap-x-8 gap-y-5 text-sm md:grid-cols-2">
        <div>
          <dt className="font-semibold">…a payment fails</dt>
          <dd className="mt-1 flex flex-col gap-1.5">
            <p>
              Your desktops keep running and can be started, but you cannot create new ones. Every page shows how long
              you have to pay.
            </p>
            <p>
              Stripe usually tries the card again within that time. You can also pay the open invoice on this page, or
              change your card in the payment portal.
            </p>
            <p>
              If it is not paid by then, running desktops stop and cannot be started. Once it is paid, you can start
              them again.
            </p>
          </dd>
        </div>
        <div>
          <dt className="font-semibold">…you cancel your plan</dt>
          <dd className="mt-1 flex flex-col gap-1.5">
            <p>
              It stays until the end of the period that you paid, and you can take the cancellation back until then.
            </p>
            <p>An hour after the end, running desktops stop. To start them again, choose a plan.</p>
          </dd>
        </div>
        <div>
          <dt className="font-semibold">…you change to a smaller plan</dt>
          <dd className="mt-1">
            <p>
              Desktops that it does not include keep running for some days; every page shows until when. Then the newest
              ones beyond its number stop, and those of larger sizes.
            </p>
          </dd>
        </div>
        <div>
          <dt className="font-semibold">…you pay</dt>
          <dd className="mt-1 flex flex-col gap-1.5">
            <p>Stripe takes the payment on its own page. This server never sees your card.</p>
            {metered && (
              <p>
                The time that your desktops run is counted each day, in seconds. It appears on your next invoice, beside
                the plan.
              </p>
            )}
          </dd>
        </div>
      </dl>
    </section>
  );
}
