// The account's plan: what it allows, what is due, and how it is changed.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Badge, Banner, Button, buttonClass, ConfirmDialog } from "@/ui";
import { OutIcon } from "@/ui/icons";
import { useNow } from "@/ui/time";
import { priceWords } from "./amount";
import { useCancel, useKeep, usePortal } from "./commands";
import { invoicesQuery, type Config, type Plan } from "./queries";
import { card } from "./style";
import { ahead, dayWords, timeWords } from "./times";
import { useNotice } from "./useNotice";
import { dueWords, headline, nameOf, sizeWords, subscribed, termWords, type Notice } from "./view";

type Shown = { plan: Plan; config: Config | undefined; types: readonly string[] | undefined };

export function Current({ plan, config, types }: Shown) {
  const { title, badge } = headline(plan, config);
  const term = termWords(plan);
  return (
    <section className={card} aria-labelledby="your-plan">
      <h2 id="your-plan" className="text-sm text-muted">
        Your plan
      </h2>
      <p className="mt-0.5 flex flex-wrap items-center gap-x-3 gap-y-1">
        <span className="text-2xl font-semibold tracking-tight">{title}</span>
        {badge && <Badge tone={badge.tone}>{badge.text}</Badge>}
      </p>
      {term && <p className="mt-1 text-sm">{term}</p>}
      <Lacks plan={plan} />
      {plan.several && (
        <Banner tone="warn" className="mt-4" title="You have more than one subscription at Stripe.">
          Each of them is charged. Cancel the ones that you do not need in the payment portal.
        </Banner>
      )}
      {plan.access.level !== "none" && <Allowed plan={plan} config={config} types={types} />}
      <Actions plan={plan} config={config} />
    </section>
  );
}

/** What is due, why the account may not do everything, and what stops when. */
function Lacks({ plan }: { plan: Plan }) {
  const now = useNow();
  const notice = useNotice();
  const due = dueWords(plan, now);
  const { access } = plan;
  if (access.level === "full") return notice ? <Stops notice={notice} /> : null;
  const why = access.reason === "no_plan" ? undefined : access.why; // it says to open this page
  const stops = plan.used_desktops > 0 && ahead(access.stop_at, now) ? access.stop_at : undefined;
  if (!why && !due && !stops) return null;
  return (
    <Banner
      tone={stops || access.reason === "payment_failed" ? "warn" : "info"}
      className="mt-4"
      title={due}
      action={due && <PayLink />}
    >
      {why && <p>{why}</p>}
      {stops && <p>Running desktops stop at {timeWords(stops)}.</p>}
    </Banner>
  );
}

const Stops = ({ notice: { tone, title, text } }: { notice: Notice }) => (
  <Banner tone={tone} title={title} className="mt-4">
    {text}
  </Banner>
);

/** Stripe's page of the open invoice. */
function PayLink() {
  const url = useQuery(invoicesQuery).data?.invoices.find((i) => i.status === "open" && i.url)?.url;
  return url ? (
    <a href={url} target="_blank" rel="noreferrer" className={buttonClass("primary", "small")}>
      Pay the invoice
      <span className="sr-only"> (opens Stripe in a new tab)</span>
    </a>
  ) : null;
}

function Allowed({ plan, config, types }: Shown) {
  const { access } = plan;
  const price = !plan.subscription?.granted && access.plan_type && config?.plans[access.plan_type].price;
  const facts = [
    ["Desktops", `${plan.used_desktops} of ${access.desktops} used`],
    ["Sizes", sizeWords(access.instance_types, types)],
    ["Price", price ? priceWords(price) : undefined],
  ];
  return (
    <dl className="mt-4 grid grid-cols-[repeat(auto-fill,minmax(11rem,1fr))] gap-x-6 gap-y-3 text-sm">
      {facts.map(
        ([name, value]) =>
          value && (
            <div key={name}>
              <dt className="text-muted">{name}</dt>
              <dd className="text-base tabular-nums">{value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

function Actions({ plan, config }: { plan: Plan; config: Config | undefined }) {
  const portal = usePortal();
  const keep = useKeep();
  const cancel = useCancel();
  const [asking, ask] = useState(false);
  const s = plan.subscription;
  const bought = subscribed(plan);
  const name = s?.plan_type && s.plan_type !== "dev" ? nameOf(s.plan_type, config) : "";
  if (!plan.portal && !bought) return null;
  return (
    <div className="mt-5 flex flex-wrap gap-2">
      {bought && s?.cancel_at_period_end && (
        <Button variant="primary" busy={keep.isPending} onClick={() => keep.mutate()}>
          Keep the plan
        </Button>
      )}
      {plan.portal && (
        <Button busy={portal.busy !== undefined} onClick={() => portal.go("plan")}>
          {portal.busy === undefined && <OutIcon />}
          Payment portal
        </Button>
      )}
      {bought && !s?.cancel_at_period_end && (
        <Button variant="quiet" onClick={() => ask(true)}>
          Cancel plan…
        </Button>
      )}
      {plan.portal && (
        <p className="basis-full text-sm text-muted">
          The portal is Stripe's page for your card, your invoices and your plan.
        </p>
      )}
      <ConfirmDialog
        open={asking}
        onClose={() => ask(false)}
        title={`Cancel the plan ${name}?`}
        action="Cancel the plan"
        cancel="Keep it"
        onConfirm={async () => {
          await cancel.mutateAsync();
        }}
      >
        <p>
          {s?.current_period_end && plan.access.level === "full"
            ? `It stays until ${dayWords(s.current_period_end)} and is not renewed.`
            : "It stays until the end of its period and is not renewed."}{" "}
          You can take this back until then.
        </p>
        <p className="mt-2">
          An hour after the end, running desktops stop. They are not deleted: their disks and files are kept, and with a
          new plan you can start them again.
        </p>
      </ConfirmDialog>
    </div>
  );
}
