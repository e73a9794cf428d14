// The account's invoices, as Stripe shows them.
import { useQuery } from "@tanstack/react-query";
import { sentence } from "@/api/client";
import { Badge, Banner, Button, buttonClass, Spinner } from "@/ui";
import { useNow } from "@/ui/time";
import { invoicesQuery, type Invoice } from "./queries";
import { card } from "./style";
import { dayWords } from "./times";
import { invoiceWords } from "./view";

export function Invoices() {
  const list = useQuery(invoicesQuery);
  return (
    <section className={card} aria-labelledby="invoices">
      <h2 id="invoices" className="text-lg font-semibold">
        Invoices
      </h2>
      {list.isPending && (
        <p className="mt-3 text-sm">
          <Spinner label="Loading…" />
        </p>
      )}
      {list.error && (
        <Banner
          tone={list.data ? "warn" : "bad"}
          className="mt-3"
          action={
            <Button size="small" onClick={() => void list.refetch()}>
              Try again
            </Button>
          }
        >
          {sentence(list.error)}
        </Banner>
      )}
      {list.data?.invoices.length === 0 && <p className="mt-2 text-sm text-muted">There are no invoices yet.</p>}
      <ul className="divide-y divide-line">
        {list.data?.invoices.map((i) => (
          <Row key={i.id} invoice={i} />
        ))}
      </ul>
    </section>
  );
}

function Row({ invoice: i }: { invoice: Invoice }) {
  const { tone, text, amount, next, link } = invoiceWords(i, useNow());
  const name = i.number ?? `of ${dayWords(i.created_at)}`;
  return (
    <li className="flex flex-wrap items-center gap-x-4 gap-y-2 py-3">
      <div className="min-w-0 flex-1 basis-48 text-sm">
        <p className="flex flex-wrap items-center gap-x-2 gap-y-1">
          <span className="text-base font-medium tabular-nums">{amount}</span>
          <Badge tone={tone}>{text}</Badge>
        </p>
        <p className="text-muted">
          {dayWords(i.period_start)} – {dayWords(i.period_end)}
          {i.number && ` · ${i.number}`}
        </p>
        {next && <p>{next}</p>}
      </div>
      <div className="flex gap-2">
        {i.url && (
          <a
            href={i.url}
            target="_blank"
            rel="noreferrer"
            className={buttonClass(link === "Pay" ? "primary" : "plain", "small")}
          >
            {link}
            <span className="sr-only"> invoice {name} (opens Stripe in a new tab)</span>
          </a>
        )}
        {i.pdf_url && (
          <a href={i.pdf_url} rel="noreferrer" className={buttonClass("quiet", "small")}>
            PDF
            <span className="sr-only"> of invoice {name}</span>
          </a>
        )}
      </div>
    </li>
  );
}
