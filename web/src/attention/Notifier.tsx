// Loaded later: notifications, and the offer of them.
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useEffectEvent, useRef } from "react";
import { Button, toast } from "@/ui";
import { CloseIcon } from "@/ui/icons";
import { viewOf } from "./ChatLink";
import { Notifications } from "./notifications";
import { allow, permission, refuse, usePermission } from "./permission";
import { useWaiting } from "./store";
import type { Waiting } from "./waiting";

export function Notifier({ login }: { login: string }) {
  const waiting = useWaiting();
  const navigate = useNavigate();
  const open = useEffectEvent(
    (w: Waiting) => void navigate({ to: "/desktops/$id", params: { id: w.id }, search: viewOf(w) }),
  );
  const notifications = useRef<Notifications>(null);
  useEffect(() => {
    const n = (notifications.current = new Notifications(login, (w) => open(w)));
    return () => n.stop();
  }, [login]);
  useEffect(() => void notifications.current?.update(waiting), [waiting]);
  return waiting.length > 0 ? <Offer /> : null;
}

async function accept() {
  await allow();
  if (permission() === "blocked")
    toast({ tone: "warn", title: "Notifications are blocked", detail: "Your account's page says how to allow them." });
}

/** Offers notifications while the user sees that an agent waits. */
function Offer() {
  const now = usePermission();
  if (now !== "ask") return null;
  return (
    <section
      aria-label="Offer of notifications"
      className="flex shrink-0 flex-wrap items-center justify-end gap-x-3 gap-y-2 border-b border-line bg-accent-soft px-3 py-1.5 text-sm text-accent-ink sm:px-4"
    >
      <p className="max-md:sr-only">Your browser can notify you while this tab is in the background.</p>
      <div className="flex gap-2">
        <Button size="small" variant="primary" onClick={() => void accept()}>
          <span>
            Notify me<span className="max-sm:sr-only"> when the agent needs me</span>
          </span>
        </Button>
        <Button size="small" variant="quiet" onClick={refuse} aria-label="Not now">
          <span className="max-md:sr-only">Not now</span>
          <CloseIcon className="size-4 md:hidden" />
        </Button>
      </div>
    </section>
  );
}
