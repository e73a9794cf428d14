import {
  createContext,
  useContext,
  useEffect,
  useLayoutEffect,
  useRef,
  useState,
  useSyncExternalStore,
  type ReactNode,
} from "react";
import { createPortal } from "react-dom";
import { toast } from "@/ui";
import { useBarRoom } from "@/ui/media";
import { problemLine } from "./ClipboardButton";
import type { Desktop } from "./Desktop";
import { Overlay } from "./Overlay";
import type { DesktopSnapshot } from "./snapshot";
import { statusLine, viewersLine } from "./status";
import { OnScreenKeyboard } from "./OnScreenKeyboard";
import { Tools } from "./Tools";
import { useFullScreen } from "./useFullScreen";
import { usePlaced } from "./usePlaced";

/** The places in the page's bar for a desktop's state and tools. */
export const DesktopBar = createContext<{ state: HTMLElement | null; tools: HTMLElement | null }>({
  state: null,
  tools: null,
});

/** Beside is what the page knows of the desktop's users. All of it is within the panel, and so in full screen. */
export interface Beside {
  /** Who uses the desktop: a frame shows it, and the line says it. */
  who: "agent" | "user" | undefined;
  /** Is in the bar, or over the screen where the bar has no room or is hidden. */
  line: (place: "bar" | "screen" | "full") => ReactNode;
  /** A button of the toolbar. */
  button: (brief: boolean) => ReactNode;
  /** Cards over a corner of the screen. The keys that lead out of the desktop lead to them. */
  cards: (full: boolean) => ReactNode;
}

export interface DesktopPanelProps {
  /** The workspace keeps it, so that moving the panel does not reconnect. */
  desktop: Desktop;
  name: string;
  /** Called when the desktop has ended permanently and the user pressed the button. */
  onEnd?: (action: "sign_in" | "leave") => void;
  beside?: Beside;
}

/** A desktop. Its tools are in the page's bar; in full screen they are at its own top. */
export function DesktopPanel({ desktop, name, onEnd, beside }: DesktopPanelProps) {
  const now = useSyncExternalStore(desktop.subscribe, desktop.getSnapshot);
  const [panel, setPanel] = useState<HTMLElement | null>(null);
  const [top, setTop] = useState<HTMLElement | null>(null); // the toolbar of full screen
  const stage = useRef<HTMLDivElement>(null);
  const way = useRef<HTMLButtonElement>(null);
  const cards = useRef<HTMLDivElement>(null);
  const after = useRef<HTMLDivElement>(null);
  const screen = useFullScreen(panel);
  const bar = useContext(DesktopBar);
  const tools = usePlaced(screen.on ? top : bar.tools);
  const { wide, narrow } = useBarRoom();
  const viewOnly = now.mode === "view";

  useEffect(() => desktop.setUp(true), [desktop]); // the owner knows whether there is one
  useLayoutEffect(() => {
    const here = stage.current!;
    desktop.attach(here);
    return () => desktop.detach(here);
  }, [desktop]);
  const chosen = useRef(now.scale);
  useEffect(() => {
    if (chosen.current === "match" && now.scale === "fit" && now.takesSize === false)
      toast({ title: "Using Fit instead of Match", detail: "This desktop's server has a fixed size." });
    chosen.current = now.scale;
  }, [now.scale, now.takesSize]);
  const { problem } = now.clipboard;
  useEffect(() => {
    if (problem) toast({ title: problemLine(problem), tone: "bad" });
  }, [problem]);
  useEffect(
    () => desktop.onLeave(() => (cards.current?.querySelector("button") ? cards : way).current?.focus()),
    [desktop],
  );
  const place = screen.on ? "full" : wide ? "bar" : "screen";

  return (
    <section
      ref={setPanel}
      aria-label={`Desktop of ${name}`}
      className="group/panel relative flex h-full min-h-0 min-w-0 flex-col bg-sunken text-ink"
    >
      {screen.on && (
        <div
          ref={setTop}
          className="absolute inset-x-0 top-0 z-10 flex -translate-y-[calc(100%-0.4rem)] items-center gap-0.5 border-b border-line bg-panel px-1.5 py-1 opacity-60 shadow-lg transition-transform hover:translate-y-0 hover:opacity-100 focus-within:translate-y-0 focus-within:opacity-100 has-data-popup-open:translate-y-0 has-data-popup-open:opacity-100"
        >
          <div className="min-w-0 flex-1 truncate pl-1.5 text-xs text-muted">
            <State now={now} short={!wide} />
          </div>
        </div>
      )}
      {!screen.on && bar.state && createPortal(<State now={now} short={!wide} />, bar.state)}
      {createPortal(
        <>
          {place === "bar" && (
            <div role="status" className="flex shrink-0 px-1.5 whitespace-nowrap">
              {beside?.line(place)}
            </div>
          )}
          <Tools
            desktop={desktop}
            now={now}
            screen={screen}
            brief={!wide}
            folded={narrow && !screen.on}
            button={beside?.button}
            container={screen.on ? panel : null}
            way={way}
          />
        </>,
        tools,
      )}
      <button
        type="button"
        onClick={() => after.current?.focus()}
        className="sr-only z-20 rounded-md bg-accent px-3 py-2 text-sm text-on-accent focus:not-sr-only focus:absolute focus:top-2 focus:left-2"
      >
        Skip the desktop
      </button>
      <div className="relative min-h-0 flex-1 has-[.cloudbot-keys:focus]:outline-2 has-[.cloudbot-keys:focus]:-outline-offset-2 has-[.cloudbot-keys:focus]:outline-accent group-fullscreen/panel:outline-none">
        {/* Before the screen, which takes the Tab key. */}
        <div
          ref={cards}
          tabIndex={-1}
          role="group"
          aria-label="Messages over the desktop"
          aria-live="polite"
          className="pointer-events-none absolute right-2 bottom-2 z-20 flex max-h-[calc(100%-1rem)] w-[min(25rem,calc(100%-1rem))] flex-col items-end justify-end gap-2 outline-none"
        >
          {beside?.cards(screen.on)}
        </div>
        <div ref={stage} className={`absolute inset-0 ${viewOnly ? "[&_canvas]:cursor-default!" : ""}`} />
        <Overlay desktop={desktop} now={now} onEnd={onEnd} />
        {beside?.who && (
          <div
            className={`pointer-events-none absolute inset-0 border-3 ${beside.who === "user" ? "border-good" : "border-accent"}`}
          />
        )}
        {place !== "bar" && (
          <div
            role="status"
            className="pointer-events-none absolute inset-x-0 top-0 z-5 mx-auto flex w-fit max-w-[95%] justify-center group-fullscreen/panel:top-1.5"
          >
            {beside?.line(place)}
          </div>
        )}
        {screen.hint && (
          <output className="pointer-events-none absolute inset-x-0 top-14 z-5 mx-auto w-fit max-w-[90%] rounded-lg border border-line bg-raised px-3 py-2 text-center text-sm shadow-lg">
            Press Ctrl + Alt + Shift to leave the desktop; hold Esc to leave full screen. The toolbar is at the top.
          </output>
        )}
      </div>
      {now.onScreen && now.painted && !viewOnly && <OnScreenKeyboard desktop={desktop} held={now.held} />}
      <div ref={after} tabIndex={-1} className="sr-only">
        After the desktop
      </div>
    </section>
  );
}

function State({ now, short }: { now: DesktopSnapshot; short: boolean }) {
  const viewers = viewersLine(now, short);
  return (
    <>
      <output>{viewers}</output>
      {viewers && <span aria-hidden="true"> · </span>}
      <output>{statusLine(now, short)}</output>
      {/* It changes every second, so it is no live region. */}
      {now.link.at === "open" && !short && !now.focused && now.roundTripMs !== undefined && (
        <span aria-hidden="true"> · {now.roundTripMs} ms</span>
      )}
    </>
  );
}
