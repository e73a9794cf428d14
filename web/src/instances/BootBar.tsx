import type { Instance } from "@/api/client";
import { duration, useNow } from "@/ui/time";
import { elapsed, estimate, experience, phaseLabel } from "./phases";
import { useBootTimes } from "./bootTimes";

/** The progress of an instance's boot, estimated from earlier boots here. */
export function BootBar({ instance: i, className = "" }: { instance: Instance; className?: string }) {
  const now = useNow();
  const times = useBootTimes(i);
  const e = estimate(times, i.phase, Date.parse(i.phase_since), now, i.progress);
  const known = experience(times);
  const percent = Math.round(e.fraction * 100);
  return (
    <div className={className}>
      <div className="mb-1.5 flex flex-wrap items-baseline justify-between gap-x-3 text-sm">
        <span>
          <span className="font-medium">{phaseLabel(i.phase)}</span>
          {i.phase_detail && <span className="text-muted"> · {i.phase_detail}</span>}
        </span>
        <span className="text-muted tabular-nums">
          {e.late
            ? "Taking longer than usual; still trying"
            : e.left === undefined
              ? elapsed(i, now)
              : e.left < 1_000
                ? "Almost done"
                : `About ${duration(e.left)} left`}
        </span>
      </div>
      <div
        role="progressbar"
        aria-label={`Startup of ${i.name}`}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={percent}
        aria-valuetext={`${phaseLabel(i.phase)}, ${percent} %`}
        className="h-2 overflow-hidden rounded-full border border-outline/40 bg-sunken"
      >
        <div
          className="h-full rounded-full bg-accent transition-[width] duration-500 ease-linear forced-colors:bg-[Highlight]"
          style={{ width: `${percent}%` }}
        />
      </div>
      {known && <p className="mt-1.5 text-xs text-muted">{known}</p>}
    </div>
  );
}
