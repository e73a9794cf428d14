import { useEffect, useState } from "react";
import { Button, Spinner } from "@/ui";
import type { Desktop } from "./Desktop";
import type { DesktopSnapshot } from "./snapshot";
import { endings, whys } from "./status";

type Props = {
  desktop: Desktop;
  now: DesktopSnapshot;
  onEnd: ((action: "sign_in" | "leave") => void) | undefined;
};

/** The message over the screen while there is no screen, or an old one. */
export function Overlay({ desktop, now, onEnd }: Props) {
  const { link } = now;
  if (link.at === "open" && now.painted) return null;
  return (
    <div className="pointer-events-none absolute inset-0 flex items-center justify-center p-4">
      <div
        aria-live="polite"
        className="pointer-events-auto flex max-w-sm flex-col items-center gap-2 rounded-xl border border-line bg-panel/95 px-5 py-4 text-center text-sm shadow-lg"
      >
        {(link.at === "idle" || link.at === "connecting") && (
          <Spinner label={now.still ? "Reconnecting…" : "Connecting…"} />
        )}
        {link.at === "open" && <Spinner label="Waiting for the picture…" />}
        {link.at === "waiting" && (
          <>
            <p className="font-medium">{whys[link.why]}</p>
            {now.still && <p className="text-xs text-muted">Showing the last picture.</p>}
            {Number.isFinite(link.until) && (
              <p className="flex flex-wrap items-center justify-center gap-3">
                <Countdown until={link.until} />
                <Button size="small" onClick={() => desktop.retryNow()}>
                  Connect now
                </Button>
              </p>
            )}
          </>
        )}
        {link.at === "ended" && (
          <>
            <p className="font-medium">{endings[link.reason].title}</p>
            <p className="text-muted">{endings[link.reason].detail}</p>
            <Button
              size="small"
              variant="primary"
              onClick={() =>
                link.action === "retry"
                  ? desktop.retryNow()
                  : onEnd
                    ? onEnd(link.action)
                    : location.assign(import.meta.env.BASE_URL)
              }
            >
              {endings[link.reason].button}
            </Button>
          </>
        )}
      </div>
    </div>
  );
}

/** Not announced every second: the text beside it is announced once. */
function Countdown({ until }: { until: number }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.max(0, Math.ceil((until - now) / 1000));
  return (
    <span aria-hidden="true" className="text-muted tabular-nums">
      Retrying in {seconds} s
    </span>
  );
}
