import type { ReactNode } from "react";
import { CheckIcon, InfoIcon, WarnIcon } from "./icons";

export type Tone = "info" | "good" | "warn" | "bad";

const tones: Record<Tone, string> = {
  info: "border-line bg-sunken text-ink",
  good: "border-good bg-good-soft text-good",
  warn: "border-warn bg-warn-soft text-warn",
  bad: "border-bad bg-bad-soft text-bad",
};

/** A sentence about a state, with an action. Errors are announced immediately. */
export function Banner({
  tone,
  title,
  children,
  action,
  className = "",
}: {
  tone: Tone;
  title?: ReactNode;
  children?: ReactNode;
  action?: ReactNode;
  className?: string;
}) {
  const Icon = tone === "info" ? InfoIcon : tone === "good" ? CheckIcon : WarnIcon;
  return (
    <div
      role={tone === "bad" ? "alert" : "status"}
      className={`flex flex-wrap items-center gap-x-3 gap-y-2 rounded-lg border px-3 py-2 text-sm ${tones[tone]} ${className}`}
    >
      <Icon className="size-5 shrink-0 self-start" />
      <div className="min-w-0 flex-1 basis-48 break-words">
        {title && <strong className="block font-semibold">{title}</strong>}
        {children}
      </div>
      {action}
    </div>
  );
}

const badges: Record<Tone | "busy", string> = {
  info: "bg-sunken text-ink border-line",
  busy: "bg-accent-soft text-accent-ink border-accent-ink/30",
  good: "bg-good-soft text-good border-good/30",
  warn: "bg-warn-soft text-warn border-warn/30",
  bad: "bg-bad-soft text-bad border-bad/30",
};

export function Badge({ tone = "info", children }: { tone?: Tone | "busy"; children: ReactNode }) {
  return (
    <span
      className={`inline-flex items-center gap-1.5 rounded-full border px-2 py-0.5 text-xs font-medium whitespace-nowrap ${badges[tone]}`}
    >
      {children}
    </span>
  );
}

/** Replaces an empty list and explains how to fill it. */
export function EmptyState({
  icon,
  title,
  children,
  action,
}: {
  icon?: ReactNode;
  title: string;
  children?: ReactNode;
  action?: ReactNode;
}) {
  return (
    <div className="mx-auto flex max-w-md flex-col items-center gap-3 px-4 py-14 text-center">
      {icon && <div className="text-accent-ink">{icon}</div>}
      <h2 className="text-lg font-semibold">{title}</h2>
      {children && <div className="text-sm text-muted">{children}</div>}
      {action && <div className="mt-2 flex flex-wrap justify-center gap-2">{action}</div>}
    </div>
  );
}
