// A desktop that does not run: why, and one button that starts it. The page then shows its boot, and connects by itself.
import { Link } from "@tanstack/react-router";
import { useEffect, useEffectEvent, useState } from "react";
import type { Instance } from "@/api/client";
import { stoppedWords } from "@/idle/outlook";
import { OutlookLine } from "@/idle/OutlookLine";
import { useStart } from "@/instances/commands";
import { CostLine } from "@/money/CostLine";
import { LateBudgetNote } from "@/money/LateBudgetNote";
import { ReadChat } from "@/saved";
import { Banner, Button, buttonClass, EmptyState } from "@/ui";
import { DesktopIcon, PlayIcon } from "@/ui/icons";

export function Stopped({ instance: i }: { instance: Instance }) {
  const stopping = i.status === "stopping";
  const why = stoppedWords(i);
  return (
    <div className="h-full overflow-y-auto">
      <EmptyState
        icon={<DesktopIcon className="size-10" />}
        title={stopping ? "Stopping" : "This desktop is stopped"}
        action={
          <>
            <Wake key={i.id} instance={i} />
            <ReadChat instance={i} />
            <Link to="/desktops/$id/about" params={{ id: i.id }} className={buttonClass()}>
              History
            </Link>
          </>
        }
      >
        {why && <p className="mb-2 text-ink">{why}</p>}
        <p>
          {stopping
            ? "The machine is shutting down. Its disk is kept."
            : "Its disk is kept. Starting takes about as long as the first time, minus the installation."}
        </p>
        <CostLine instance={i} className="mt-2" />
        <OutlookLine instance={i} className="mt-3 justify-center text-left" />
        <LateBudgetNote id={i.id} className="mt-4" />
        {i.status_reason && (
          <Banner tone="warn" className="mt-4 text-left">
            {i.status_reason}
          </Banner>
        )}
      </EmptyState>
    </div>
  );
}

/** Starts the desktop; while it still stops, as soon as it has stopped. */
function Wake({ instance: i }: { instance: Instance }) {
  const { mutate, isPending } = useStart();
  const [wanted, want] = useState(false);
  const start = useEffectEvent(() => mutate({ instance: i, arg: undefined }, { onError: () => want(false) }));
  const due = wanted && i.status === "stopped";
  useEffect(() => {
    if (due) start();
  }, [due]);
  return (
    <>
      <Button variant="primary" size="large" busy={isPending || wanted} onClick={() => want(true)}>
        {!isPending && !wanted && <PlayIcon />}
        Start<span className="sr-only"> {i.name}</span>
      </Button>
      {wanted && i.status === "stopping" && (
        <p role="status" className="basis-full text-sm text-muted">
          It starts as soon as it has stopped.
        </p>
      )}
    </>
  );
}
