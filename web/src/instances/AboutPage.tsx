import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { ApiError, sentence, type Instance } from "@/api/client";
import { historyQuery, instanceQuery } from "@/api/queries";
import type { AboutTab } from "@/search";
import { Missing, PageTitle } from "@/shell";
import { Banner, Button, buttonClass, Spinner } from "@/ui";
import { BackIcon } from "@/ui/icons";
import { Diagnostics } from "@/diagnostics/Diagnostics";
import { History } from "@/history/History";
import { stoppedWords } from "@/idle/outlook";
import { OutlookLine } from "@/idle/OutlookLine";
import { useCostWords } from "@/money/CostLine";
import { LateBudgetNote } from "@/money/LateBudgetNote";
import { price } from "@/money/money";
import { StatusBadge } from "./InstanceCard";
import { InstanceMenu } from "./InstanceMenu";
import { possible } from "./commands";
import { isLocal } from "./place";
import { StartButton } from "./StartButton";

const tabs: { tab: AboutTab; label: string }[] = [
  { tab: "history", label: "History" },
  { tab: "diagnostics", label: "Diagnostics" },
];

export function AboutPage() {
  const { id } = useParams({ from: "/signed-in/framed/desktops/$id/about" });
  const { tab = "history" } = useSearch({ from: "/signed-in/framed/desktops/$id/about" });
  const navigate = useNavigate();
  const instance = useQuery(instanceQuery(id));
  if (instance.error instanceof ApiError && instance.error.status === 404) return <Missing />;
  if (instance.error && !instance.data)
    return (
      <Banner
        tone="bad"
        action={
          <Button size="small" onClick={() => void instance.refetch()}>
            Try again
          </Button>
        }
      >
        {sentence(instance.error)}
      </Banner>
    );
  if (!instance.data) return <Spinner label="Loading…" />;
  const i = instance.data;
  return (
    <>
      <PageTitle
        back={
          <Link to="/" className="mb-1 inline-flex items-center gap-1 text-sm text-muted hover:text-ink">
            <BackIcon className="size-4" />
            Desktops
          </Link>
        }
        action={
          <div className="flex flex-wrap items-center gap-2">
            <StatusBadge instance={i} />
            <StartButton instance={i} />
            {possible(i).open && (
              <Link to="/desktops/$id" params={{ id }} className={buttonClass("primary")}>
                Open
              </Link>
            )}
            <InstanceMenu instance={i} withStop />
          </div>
        }
      >
        {i.name}
      </PageTitle>
      <Facts instance={i} />
      <div role="tablist" aria-label="About this desktop" className="mb-5 flex gap-1 border-b border-line">
        {tabs.map((t, n) => (
          <button
            key={t.tab}
            type="button"
            role="tab"
            id={`tab-${t.tab}`}
            aria-selected={t.tab === tab}
            aria-controls="about-panel"
            tabIndex={t.tab === tab ? 0 : -1}
            onClick={() =>
              void navigate({ to: "/desktops/$id/about", params: { id }, search: { tab: t.tab }, replace: true })
            }
            onKeyDown={(e) => {
              const step = e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? -1 : 0;
              const to = step && tabs[(n + step + tabs.length) % tabs.length];
              if (!to) return;
              document.getElementById(`tab-${to.tab}`)?.focus();
              void navigate({ to: "/desktops/$id/about", params: { id }, search: { tab: to.tab }, replace: true });
            }}
            className="-mb-px min-h-10 border-b-2 border-transparent px-3 text-sm text-muted hover:text-ink aria-selected:border-accent-ink aria-selected:font-medium aria-selected:text-ink forced-colors:border-[Canvas] forced-colors:aria-selected:border-[Highlight]"
          >
            {t.label}
          </button>
        ))}
      </div>
      <div id="about-panel" role="tabpanel" aria-labelledby={`tab-${tab}`}>
        {tab === "history" ? <History of={historyQuery(id)} /> : <Diagnostics instance={i} />}
      </div>
    </>
  );
}

function Facts({ instance: i }: { instance: Instance }) {
  const facts: [string, string | null][] = [
    ["Size", isLocal(i) ? null : i.instance_type],
    ["Region", isLocal(i) ? null : i.region],
    ["Runs on", isLocal(i) ? "The server's own computer" : null],
    ["Machine", i.ec2_instance_id],
    ["Address", isLocal(i) ? null : i.public_ip],
    ["Created", new Date(i.created_at).toLocaleString()],
    ["Costs", useCostWords(i).join(" · ")],
    ["Price", priceWords(i)],
  ];
  return (
    <>
      {i.status_reason && (
        <Banner tone={i.status === "failed" ? "bad" : "warn"} className="mb-5">
          {i.status_reason}
        </Banner>
      )}
      <LateBudgetNote id={i.id} className="mb-5" />
      {stoppedWords(i) && <p className="mb-4 text-sm">{stoppedWords(i)}</p>}
      <OutlookLine instance={i} className="mb-5" />
      <dl className="mb-6 grid grid-cols-[repeat(auto-fill,minmax(11rem,1fr))] gap-x-6 gap-y-3 text-sm">
        {facts.map(
          ([name, value]) =>
            value && (
              <div key={name}>
                <dt className="text-muted">{name}</dt>
                <dd className="[overflow-wrap:anywhere]">{value}</dd>
              </div>
            ),
        )}
        {Object.entries(i.versions).map(([name, value]) => (
          <div key={`version-${name}`}>
            <dt className="text-muted">{versionNames.get(name) ?? name}</dt>
            <dd className="[overflow-wrap:anywhere]">{value}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}

/** Returns what the desktop costs in an hour and in a month; nothing for one without a price. */
function priceWords({ cost }: Instance): string | null {
  if (!cost?.hourly_micros) return null;
  const disk = cost.disk_monthly_micros ? `, ${price(cost.disk_monthly_micros)} a month for its disk` : "";
  return `About ${price(cost.hourly_micros)} an hour while running${disk}`;
}

// A Map, because the machine names its programs: an object has names of its own, such as "constructor".
const versionNames = new Map(
  Object.entries({
    guest: "Guest",
    os: "System",
    node: "Node",
    openclaw: "OpenClaw",
    agent: "Agent",
    agent_sees: "The agent sees",
    model: "Model",
  }),
);
