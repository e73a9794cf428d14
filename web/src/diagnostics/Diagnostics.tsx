import { useQuery } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";
import { sentence, type Instance } from "@/api/client";
import { reportQuery } from "@/api/queries";
import { StartButton } from "@/instances/StartButton";
import { Banner, Button, Spinner } from "@/ui";
import { RefreshIcon } from "@/ui/icons";
import { clockTime } from "@/ui/time";
import { telling } from "./log";
import { probesOf, verdict } from "./probes";
import { Raw, Text } from "./Raw";
import { parsed, programsOf, summaryOf, type Fact } from "./summary";

/** What an instance's machine reports about itself, for people. */
export function Diagnostics({ instance: i }: { instance: Instance }) {
  if (i.status !== "running") {
    return (
      <Banner tone="info" action={<StartButton instance={i} size="small" />}>
        Diagnostics are available only while the machine is running. The history shows what happened.
      </Banner>
    );
  }
  return <Running id={i.id} />;
}

function Running({ id }: { id: string }) {
  const state = useQuery(reportQuery(id, "debug"));
  const programs = useQuery(reportQuery(id, "check"));
  const log = useQuery(reportQuery(id, "log"));
  const all = [state, programs, log];
  return (
    <div className="flex flex-col gap-5">
      <div className="flex flex-wrap items-center justify-end gap-3">
        <p className="text-sm text-muted">
          {state.data !== undefined && `As of ${clockTime(new Date(state.dataUpdatedAt).toISOString())}`}
        </p>
        <Button
          size="small"
          busy={all.some((q) => q.isFetching)}
          onClick={() => all.forEach((q) => void q.refetch())}
          aria-label="Refresh the diagnostics"
        >
          <RefreshIcon className="size-4" />
          Refresh
        </Button>
      </div>
      <Card name="state" title="State" answer={state}>
        {(text) => <State text={text} />}
      </Card>
      <Keys id={id} />
      <Card name="programs" title="Programs" answer={programs}>
        {(text) => {
          const report = parsed(text);
          return (
            <>
              {report ? <Facts facts={programsOf(report)} /> : <Unreadable />}
              <Raw text={text} name="programs as JSON" file="programs.json" />
            </>
          );
        }}
      </Card>
      <Card name="log" title="Log" answer={log}>
        {(text) => <Log text={text} />}
      </Card>
    </div>
  );
}

type Answer = { data: string | undefined; error: Error | null; isPending: boolean; isFetching: boolean };

function Card({
  name,
  title,
  answer,
  action,
  children,
}: {
  name: string;
  title: string;
  answer: Answer;
  action?: ReactNode;
  children: (text: string) => ReactNode;
}) {
  return (
    <section aria-labelledby={`report-${name}`} className="rounded-xl border border-line bg-panel p-4 sm:p-5">
      <div className="mb-3 flex flex-wrap items-start justify-between gap-3">
        <h2 id={`report-${name}`} className="font-semibold">
          {title}
        </h2>
        {action}
      </div>
      {answer.error && <Banner tone="bad">{sentence(answer.error)}</Banner>}
      {answer.isPending && answer.isFetching && <Spinner label="Asking the machine…" />}
      {answer.data !== undefined && children(answer.data)}
    </section>
  );
}

const Unreadable = () => <Banner tone="warn">The machine sent a report that this page cannot read.</Banner>;

function State({ text }: { text: string }) {
  const report = parsed(text);
  const summary = report && summaryOf(report);
  return (
    <>
      {!summary && <Unreadable />}
      {summary?.problems.map((p) => (
        <Banner key={p.what} tone="warn" title={p.what} className="mb-2">
          {p.next}
        </Banner>
      ))}
      {summary?.problems.length === 0 && (
        <Banner tone="good" className="mb-2">
          No problem is reported.
        </Banner>
      )}
      {summary && <Facts facts={summary.facts} />}
      <Raw text={text} name="state as JSON" file="state.json" />
    </>
  );
}

function Facts({ facts }: { facts: Fact[] }) {
  return (
    <dl className="mt-3 grid gap-x-4 gap-y-1.5 text-sm sm:grid-cols-[12rem_1fr]">
      {facts.map(({ name, value }, n) => (
        <div key={`${n} ${name}`} className="contents">
          <dt className="break-words text-muted">{name}</dt>
          <dd className="mb-1 break-words sm:mb-0">{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Log({ text }: { text: string }) {
  const { text: told, left } = telling(text);
  return (
    <>
      <p className="mb-2 text-sm text-muted">
        The machine's last lines, without secrets.
        {left > 0 &&
          ` ${left === 1 ? "One line" : `${left} lines`} that a healthy X server writes ${left === 1 ? "is" : "are"} left out.`}
      </p>
      <Text text={told} name="Log" />
      <Raw text={text} name="whole log" file="log.txt" />
    </>
  );
}

/** The providers that have a key, with their verdict on it. The user asks for it. */
function Keys({ id }: { id: string }) {
  const [asked, ask] = useState(false);
  const answer = useQuery({ ...reportQuery(id, "testapi"), enabled: asked });
  return (
    <Card
      name="keys"
      title="API keys"
      answer={answer}
      action={
        <Button size="small" busy={answer.isFetching} onClick={() => (asked ? void answer.refetch() : ask(true))}>
          Test the keys
        </Button>
      }
    >
      {(text) => <Verdicts text={text} />}
    </Card>
  );
}

function Verdicts({ text }: { text: string }) {
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
