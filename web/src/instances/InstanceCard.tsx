import { Link } from "@tanstack/react-router";
import type { Instance } from "@/api/client";
import { StopsLink, WaitingLink } from "@/attention/WaitingLink";
import { stoppedWords } from "@/idle/outlook";
import { CostLine } from "@/money/CostLine";
import { LateBudgetNote } from "@/money/LateBudgetNote";
import { Badge, Banner, Button, buttonClass } from "@/ui";
import { StopIcon } from "@/ui/icons";
import { Ago } from "@/ui/time";
import { BootBar } from "./BootBar";
import { possible, useTerminate } from "./commands";
import { InstanceMenu } from "./InstanceMenu";
import { isBooting, statusWords } from "./phases";
import { place } from "./place";
import { StartButton } from "./StartButton";
import { useStopping } from "./useStopping";

export function StatusBadge({ instance }: { instance: Instance }) {
  const { text, tone } = statusWords(instance);
  return <Badge tone={tone}>{text}</Badge>;
}

export function InstanceCard({ instance: i }: { instance: Instance }) {
  const { stop, busy: stops, dialog } = useStopping(i);
  const terminate = useTerminate();
  const can = possible(i);
  const why = stoppedWords(i);
  const rests = i.status === "stopped" || i.status === "stopping"; // its page offers to start it
  return (
    <article
      tabIndex={-1}
      aria-labelledby={`name-${i.id}`}
      className="outline-none rounded-xl border border-line bg-panel p-4 sm:p-5"
    >
      <div className="flex flex-wrap items-center gap-x-4 gap-y-3">
        <div className="min-w-0 flex-1 basis-60">
          <div className="flex flex-wrap items-center gap-2">
            <h2 id={`name-${i.id}`} className="max-w-full text-lg font-semibold break-words">
              {can.open || rests ? (
                <Link to="/desktops/$id" params={{ id: i.id }} className="rounded hover:underline">
                  {i.name}
                </Link>
              ) : (
                i.name
              )}
            </h2>
            <StatusBadge instance={i} />
          </div>
          <p className="mt-0.5 text-sm text-muted">
            {place(i) ? `${place(i)} · created ` : "Created "}
            <Ago at={i.created_at} />
          </p>
          <CostLine instance={i} className="text-sm text-muted" />
          {why && <p className="mt-1 text-sm">{why}</p>}
          <div className="flex flex-wrap gap-x-2">
            <WaitingLink instance={i} className="mt-2" />
            <StopsLink instance={i} className="mt-2" />
          </div>
        </div>
        <div className="flex items-center gap-2">
          {can.open && (
            <Link to="/desktops/$id" params={{ id: i.id }} className={buttonClass("primary")}>
              Open<span className="sr-only"> {i.name}</span>
            </Link>
          )}
          <StartButton instance={i} />
          {can.stop && (
            <Button busy={stops} onClick={stop}>
              <StopIcon />
              Stop<span className="sr-only"> {i.name}</span>
            </Button>
          )}
          {can.remove && (
            <Button busy={terminate.isPending} onClick={() => terminate.mutate({ instance: i, arg: undefined })}>
              Remove<span className="sr-only"> {i.name}</span>
            </Button>
          )}
          <InstanceMenu instance={i} />
          {dialog}
        </div>
      </div>
      {isBooting(i) && <BootBar instance={i} className="mt-4" />}
      {rests && <LateBudgetNote id={i.id} className="mt-4" />}
      {i.status_reason && (
        <Banner tone={i.status === "failed" ? "bad" : "warn"} className="mt-4">
          {i.status_reason}
        </Banner>
      )}
    </article>
  );
}
