import { useEffect, useRef } from "react";
import type { Instance } from "@/api/client";
import { BootBar } from "@/instances/BootBar";
import { byPhase, useBoot } from "@/instances/boot";
import { phaseLabel, phases } from "@/instances/phases";
import { Banner } from "@/ui";
import { CheckIcon } from "@/ui/icons";
import { Spinner } from "@/ui/spinner";
import { clockTime } from "@/ui/time";

/** The boot of an instance with its log. Within a phase, the machine's own report is newer than the stored one. */
function useReported(stored: Instance) {
  const boot = useBoot(stored.id, true);
  const p = boot.progress;
  const instance =
    p && p.phase === stored.phase
      ? { ...stored, phase_detail: p.detail || stored.phase_detail, progress: Math.max(p.progress, stored.progress) }
      : stored;
  return { boot, instance };
}

/** Shown above the screen while the agent is still starting. */
export function BootStrip({ instance: stored }: { instance: Instance }) {
  const { boot, instance } = useReported(stored);
  return (
    <section
      aria-label="Agent startup"
      className="flex shrink-0 flex-wrap gap-x-4 gap-y-1 border-b border-line bg-panel px-3 py-1.5"
    >
      <BootBar instance={instance} className="min-w-0 flex-1 basis-48" />
      {instance.status_reason && (
        <Banner tone="warn" className="basis-full">
          {instance.status_reason}
        </Banner>
      )}
      <Log lines={boot.lines} skipped={boot.skipped} className="open:basis-full" />
    </section>
  );
}

/** Shown instead of the screen until there is one: the boot's progress and its log. */
export function BootPanel({ instance: stored }: { instance: Instance }) {
  const { boot, instance: i } = useReported(stored);
  const at = phases.findIndex((x) => x.phase === i.phase);
  return (
    <section
      aria-label="Desktop startup"
      className="relative flex h-full flex-col items-center overflow-y-auto p-4 sm:p-8"
    >
      <div className="w-full max-w-xl rounded-xl border border-line bg-panel p-5">
        <h2 className="mb-3 text-lg font-semibold">Your desktop is starting</h2>
        <BootBar instance={i} />
        {i.status_reason && (
          <Banner tone="warn" className="mt-4">
            {i.status_reason}
          </Banner>
        )}
        <ol className="mt-5 flex flex-col gap-1.5 text-sm">
          {phases.slice(1).map(({ phase, label }, n) => {
            const state = n + 1 < at ? "done" : n + 1 === at ? "now" : "later";
            return (
              <li
                key={phase}
                aria-current={state === "now" ? "step" : undefined}
                className={`flex items-center gap-2.5 ${state === "later" ? "text-muted" : ""}`}
              >
                <span className="inline-flex size-5 items-center justify-center">
                  {state === "done" ? (
                    <CheckIcon className="size-4 text-good" />
                  ) : state === "now" ? (
                    <Spinner />
                  ) : (
                    <span className="size-1.5 rounded-full bg-outline" />
                  )}
                </span>
                <span className={state === "now" ? "font-medium" : ""}>{label}</span>
                <span className="sr-only">{state === "done" ? "done" : state === "now" ? "in progress" : ""}</span>
              </li>
            );
          })}
        </ol>
        <Log lines={boot.lines} skipped={boot.skipped} className="mt-5 border-t border-line pt-3" />
      </div>
    </section>
  );
}

function Log({
  lines,
  skipped,
  className,
}: {
  lines: ReturnType<typeof useBoot>["lines"];
  skipped: number;
  className: string;
}) {
  const box = useRef<HTMLDivElement>(null);
  const stick = useRef(true);
  useEffect(() => {
    if (lines.length > 0 && stick.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  return (
    <details className={`text-sm ${className}`}>
      <summary className="font-medium select-none">Log</summary>
      <div
        ref={box}
        tabIndex={0}
        role="region"
        aria-label="Startup log"
        onScroll={(e) =>
          (stick.current = e.currentTarget.scrollHeight - e.currentTarget.scrollTop - e.currentTarget.clientHeight < 40)
        }
        className="mt-3 max-h-[min(20rem,40vh)] overflow-auto rounded-md border border-line bg-sunken p-3 font-mono text-xs leading-relaxed"
      >
        {lines.length === 0 && <p className="font-sans text-muted">No log lines yet.</p>}
        {skipped > 0 && <p className="font-sans text-muted">{skipped} lines are not shown.</p>}
        {byPhase(lines).map((g) => (
          <section key={g.lines[0]!.seq} className="mb-3" aria-label={phaseLabel(g.phase)}>
            <h3 className="mb-1 font-sans font-semibold">{phaseLabel(g.phase)}</h3>
            {g.lines.map((l) => (
              <p key={l.seq} className="whitespace-pre-wrap [overflow-wrap:anywhere]">
                <time dateTime={l.at} className="mr-2 text-muted">
                  {clockTime(l.at)}
                </time>
                {l.text}
              </p>
            ))}
          </section>
        ))}
      </div>
    </details>
  );
}
