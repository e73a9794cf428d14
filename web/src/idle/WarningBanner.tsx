// The warning before a desktop stops by itself: over its page, in its chat and over a full screen.
import type { Instance } from "@/api/client";
import { Banner, Button } from "@/ui";
import { ClockIcon } from "@/ui/icons";
import { useNow } from "@/ui/time";
import { useExtend } from "./queries";
import { clock } from "./times";
import { countdown, warningOf, type Warning } from "./warning";

/** The sentence changes every second, so a screen reader gets the time of the stop in place of the countdown. */
function Sentence({ warning }: { warning: Warning }) {
  const now = useNow();
  const left = countdown(warning.until - now);
  return (
    <>
      <span className="sr-only">This desktop stops by itself at {clock(warning.until, now)}.</span>
      <span aria-hidden="true" className="tabular-nums">
        This desktop stops by itself {left}.
      </span>
    </>
  );
}

function KeepRunning({ id }: { id: string }) {
  const extend = useExtend();
  return (
    <Button size="small" busy={extend.isPending} onClick={() => extend.mutate(id)}>
      Keep running 1 hour
    </Button>
  );
}

/** Over the desktop's page. */
export function WarningBanner({ instance }: { instance: Instance }) {
  const warning = warningOf(instance);
  if (!warning) return null;
  return (
    <Banner
      tone="warn"
      className="m-2"
      title={<Sentence warning={warning} />}
      action={<KeepRunning id={instance.id} />}
    >
      {warning.why}
    </Banner>
  );
}

/** In the chat, as a line of the system. The banner announces the same. */
export function WarningLine({ instance }: { instance: Instance }) {
  const warning = warningOf(instance);
  if (!warning) return null;
  return (
    <aside
      aria-label="Message of CloudBot"
      aria-live="off"
      className="flex flex-wrap items-center justify-center gap-x-3 gap-y-2 self-center rounded-lg border border-warn bg-warn-soft px-3 py-2 text-sm text-warn"
    >
      <ClockIcon className="size-4 shrink-0" />
      <p className="min-w-0 flex-1 basis-48 break-words">
        <Sentence warning={warning} /> {warning.why}
      </p>
      <KeepRunning id={instance.id} />
    </aside>
  );
}

/** Over a full screen, which shows nothing of the page. */
export function WarningCard({ instance, className }: { instance: Instance; className: string }) {
  const warning = warningOf(instance);
  if (!warning) return null;
  return (
    <div className={className}>
      <p className="min-w-0 flex-1 basis-40">
        <Sentence warning={warning} />
      </p>
      <KeepRunning id={instance.id} />
    </div>
  );
}
