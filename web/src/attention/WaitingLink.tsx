import type { Instance } from "@/api/client";
import { ChatIcon, ClockIcon } from "@/ui/icons";
import { TimeLeft } from "@/ui/time";
import { ChatLink, WaitsLink } from "./ChatLink";
import { stopOf, waitingOf } from "./waiting";

const style =
  "inline-flex min-h-8 items-center gap-2 rounded-md border border-warn bg-warn-soft px-2.5 py-1 text-sm font-medium text-warn hover:underline";

/** A link to the chat of a desktop that waits for an answer, with the time that is left. */
export function WaitingLink({ instance, className = "" }: { instance: Instance; className?: string }) {
  const waiting = waitingOf(instance);
  if (!waiting) return null;
  return (
    <ChatLink id={waiting.id} className={`${style} ${className}`}>
      <ChatIcon className="size-4 shrink-0" />
      <span>
        Waiting for your answer
        {waiting.count > 1 && ` to ${waiting.count} requests`}
        <TimeLeft until={waiting.until} before=" · " />
      </span>
    </ChatLink>
  );
}

/** A link to a desktop that stops soon, with the time that is left. */
export function StopsLink({ instance, className = "" }: { instance: Instance; className?: string }) {
  const stop = stopOf(instance);
  if (!stop) return null;
  return (
    <WaitsLink of={stop} className={`${style} ${className}`}>
      <ClockIcon className="size-4 shrink-0" />
      <span>
        Stops soon
        <TimeLeft until={stop.until} before=" · " />
      </span>
    </WaitsLink>
  );
}
