import type { Instance } from "@/api/client";
import { ClockIcon } from "@/ui/icons";
import { useNow } from "@/ui/time";
import { outlook, inUseWords } from "./outlook";

/** What would happen to a desktop when; nothing if nothing is due. */
export function OutlookLine({ instance: { idle }, className = "" }: { instance: Instance; className?: string }) {
  const now = useNow();
  if (!idle) return null;
  const words = [inUseWords(idle, now), outlook(idle, now)].filter(Boolean).join(" ");
  if (!words) return null;
  return (
    <p className={`flex items-start gap-2 text-sm ${className}`}>
      <ClockIcon className="size-5 shrink-0 text-muted" />
      <span className="min-w-0 break-words">{words}</span>
    </p>
  );
}
