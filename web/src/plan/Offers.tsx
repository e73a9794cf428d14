// The plans to choose from.
import { Badge, Button } from "@/ui";
import { CheckIcon } from "@/ui/icons";
import { useCheckout, usePortal } from "./commands";
import type { Config, Plan } from "./queries";
import { timeWords } from "./times";
import { offersOf, subscribed, type Offer } from "./view";

type Shown = { plan: Plan; config: Config; types: readonly string[] | undefined };

export function Offers({ plan, config, types }: Shown) {
  const checkout = useCheckout();
  const portal = usePortal();
  const bought = subscribed(plan);
  const needed = !bought && plan.access.level === "none";
  return (
    <section aria-labelledby="plans">
      <h2 id="plans" className="text-lg font-semibold">
        {needed ? "Choose a plan" : "Plans"}
      </h2>
      <p className="mt-1 mb-3 text-sm text-muted">
        {bought
          ? config.metered
            ? "Stripe cannot change a plan that also counts time. Cancel yours, and choose another one when it has ended."
            : "You change your plan in the payment portal. Stripe says what it costs before you agree."
          : "You pay on Stripe's page, and can cancel at any time. A larger plan also has the sizes of the smaller ones."}
      </p>
      <ul className="grid gap-3 md:grid-cols-3">
        {offersOf(plan, config, types).map((o) => (
          <li key={o.plan}>
            <Card
              offer={o}
              needed={needed}
              open={o.does === "continue" ? plan.checkout?.expires_at : undefined}
              busy={checkout.busy === o.plan || portal.busy === o.plan}
              onPress={() => (o.does === "change" ? portal.go(o.plan) : checkout.go(o.plan))}
            />
          </li>
        ))}
      </ul>
    </section>
  );
}

type CardProps = {
  offer: Offer;
  /** The account needs one of the plans. */
  needed: boolean;
  /** Until when its payment page is open. */
  open: string | undefined;
  busy: boolean;
  onPress: () => void;
};

function Card({ offer: o, needed, open, busy, onPress }: CardProps) {
  return (
    <article
      aria-labelledby={`plan-${o.plan}`}
      className={`flex h-full flex-col gap-3 rounded-xl border bg-panel p-4 sm:p-5 ${o.current ? "border-accent-ink" : "border-line"}`}
    >
      <div>
        <h3 id={`plan-${o.plan}`} className="flex flex-wrap items-center justify-between gap-2 font-semibold">
          {o.name}
          {o.current && <Badge tone="busy">Your plan</Badge>}
        </h3>
        <p className="mt-1 text-xl font-semibold tabular-nums">{o.price?.amount ?? "Price at Stripe"}</p>
        <p className="text-sm text-muted">{o.price ? o.price.every : "Stripe shows it before you pay"}</p>
      </div>
      <ul className="flex flex-1 flex-col gap-1.5 text-sm">
        {o.lines.map((line) => (
          <li key={line} className="flex gap-2">
            <CheckIcon className="mt-0.5 size-4 shrink-0 text-accent-ink" />
            {line}
          </li>
        ))}
      </ul>
      {open && <p className="text-sm text-muted">Its payment page is open until {timeWords(open)}.</p>}
      {o.does === "none" ? (
        !o.current && <p className="text-sm text-muted">{o.label}</p>
      ) : (
        <Button variant={needed ? "primary" : "plain"} busy={busy} onClick={onPress}>
          {o.label}
        </Button>
      )}
    </article>
  );
}
