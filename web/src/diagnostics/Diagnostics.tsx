import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { sentence, type Instance } from "@/api/client";
import { reportQuery } from "@/api/queries";
import { Banner, Button, Spinner } from "@/ui";
import { CopyButton } from "@/ui/copy";
import { RefreshIcon } from "@/ui/icons";
import { probesOf, verdict } from "./probes";

type Report = "check" | "debug" | "log" | "testapi";

const reports: { report: Report; title: string; about: string; ask?: string }[] = [
  { report: "check", title: "Programs", about: "The programs installed on the machine, with their versions." },
  { report: "debug", title: "State", about: "The state of the guest, the desktop, the agent and the tunnel." },
  {
    report: "testapi",
    title: "API keys",
    about: "Asks each provider, from the machine, whether it accepts your key. This is free.",
    ask: "Test the keys",
  },
  { report: "log", title: "Log", about: "The last lines of the machine's log, without secrets." },
];

/** The reports of an instance's machine, on one page. */
export function Diagnostics({ instance: i }: { instance: Instance }) {
  if (i.status !== "running") {
    return (
      <Banner tone="info">
        Diagnostics are available only while the machine is running. The history shows what happened.
      </Banner>
    );
  }
  return (
    <div className="flex flex-col gap-5">
      {reports.map((r) => (
        <ReportCard key={r.report} id={i.id} {...r} />
      ))}
    </div>
  );
}

function ReportCard({
  id,
  report,
  title,
  about,
  ask,
}: {
  id: string;
  report: Report;
  title: string;
  about: string;
  ask?: string;
}) {
  const [asked, setAsked] = useState(!ask);
  const answer = useQuery({ ...reportQuery(id, report), enabled: asked });
  const refresh = () => (asked ? void answer.refetch() : setAsked(true));
  return (
    <section aria-labelledby={`report-${report}`} className="rounded-xl border border-line bg-panel p-4 sm:p-5">
      <div className="mb-3 flex flex-wrap items-start justify-between gap-3">
        <div className="min-w-0 flex-1 basis-56">
          <h2 id={`report-${report}`} className="font-semibold">
            {title}
          </h2>
          <p className="text-sm text-muted">{about}</p>
        </div>
        <div className="flex gap-2">
          {answer.data && <CopyButton text={answer.data} label={`Copy ${title}`} />}
          <Button
            size="small"
            busy={answer.isFetching}
            onClick={refresh}
            aria-label={ask && !asked ? ask : `Refresh ${title}`}
          >
            {!answer.isFetching && <RefreshIcon className="size-4" />}
            {ask && !asked ? ask : "Refresh"}
          </Button>
        </div>
      </div>
      {answer.error && <Banner tone="bad">{sentence(answer.error)}</Banner>}
      {answer.isPending && asked && <Spinner label="Asking the machine…" />}
      {answer.data !== undefined &&
        (report === "testapi" ? <Keys text={answer.data} /> : <Text text={answer.data} name={title} />)}
    </section>
  );
}

function Text({ text, name }: { text: string; name: string }) {
  return (
    <pre
      tabIndex={0}
      role="region"
      aria-label={`${name}, text`}
      className="max-h-96 overflow-auto rounded-md border border-line bg-sunken p-3 font-mono text-xs leading-relaxed whitespace-pre-wrap [overflow-wrap:anywhere]"
    >
      {text}
    </pre>
  );
}

/** The providers that have a key, with their verdict on it. */
function Keys({ text }: { text: string }) {
  const have = probesOf(text);
  if (!have) return <Text text={text} name="API keys" />;
  if (have.length === 0)
    return <p className="text-sm">The machine has no API key. Add one under API keys; no restart is needed.</p>;
  return (
    <ul className="flex flex-col gap-1 text-sm">
      {have.map((p) => (
        <li key={p.provider} className={p.result === "accepted" ? "text-good" : "text-warn"}>
          <strong className="font-semibold">{p.provider}</strong> {verdict(p)}
        </li>
      ))}
    </ul>
  );
}
