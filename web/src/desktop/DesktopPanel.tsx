import { Toolbar } from "@base-ui/react/toolbar";
import { useEffect, useLayoutEffect, useRef, useState, useSyncExternalStore, type ReactNode } from "react";
import { IconButton, toast } from "@/ui";
import { EyeIcon, FullScreenIcon, KeyboardIcon } from "@/ui/icons";
import { useMedia } from "@/ui/media";
import { ClipboardButton, problemLine } from "./ClipboardButton";
import type { Desktop } from "./Desktop";
import { HandIcon, SmallScreenIcon } from "./icons";
import { KeysMenu, ScreenMenu } from "./menus";
import { Overlay } from "./Overlay";
import { statusLine } from "./status";
import { OnScreenKeyboard, type OnScreenKeyboardHandle } from "./OnScreenKeyboard";
import { useFullScreen } from "./useFullScreen";

export interface DesktopPanelProps {
  /** The workspace keeps it, so that moving the panel does not reconnect. */
  desktop: Desktop;
  name: string;
  /** Called when the desktop has ended permanently and the user pressed the button. */
  onEnd?: (action: "sign_in" | "leave") => void;
  /** More items for the right end of the toolbar, as Toolbar.Button of Base UI. */
  children?: ReactNode;
}

/** A desktop with its toolbar. */
export function DesktopPanel({ desktop, name, onEnd, children }: DesktopPanelProps) {
  const now = useSyncExternalStore(desktop.subscribe, desktop.getSnapshot);
  const [panel, setPanel] = useState<HTMLElement | null>(null); // menus open within it: full screen shows nothing else
  const stage = useRef<HTMLDivElement>(null);
  const way = useRef<HTMLButtonElement>(null);
  const after = useRef<HTMLDivElement>(null);
  const keyboard = useRef<OnScreenKeyboardHandle>(null);
  const screen = useFullScreen(panel);
  const narrow = useNarrow(panel);
  const touch = useMedia("(any-pointer: coarse)");
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
    if (problem?.kind === "long") toast({ title: problemLine(problem), tone: "bad" });
  }, [problem]);
  useEffect(() => desktop.onLeave(() => way.current?.focus()), [desktop]);

  return (
    <section
      ref={setPanel}
      aria-label={`Desktop of ${name}`}
      className="group/panel relative flex h-full min-h-0 min-w-0 flex-col bg-sunken text-ink"
    >
      <Toolbar.Root
        aria-label="Desktop"
        className={`z-10 flex shrink-0 items-center gap-0.5 border-b border-line bg-panel px-1.5 py-1 ${screen.on ? "absolute inset-x-0 top-0 -translate-y-[calc(100%-0.4rem)] opacity-60 shadow-lg transition-transform hover:translate-y-0 hover:opacity-100 focus-within:translate-y-0 focus-within:opacity-100 has-data-popup-open:translate-y-0 has-data-popup-open:opacity-100" : ""}`}
      >
        <div className="min-w-0 flex-1 truncate pl-1.5 text-xs text-muted">
          <output>{statusLine(now, narrow)}</output>
          {/* It changes every second, so it is no live region. */}
          {now.link.at === "open" && !narrow && !now.focused && now.roundTripMs !== undefined && (
            <span aria-hidden="true"> · {now.roundTripMs} ms</span>
          )}
        </div>
        <Toolbar.Button
          ref={way}
          render={
            <IconButton
              label={viewOnly ? "View only. Take control" : "View only"}
              pressed={viewOnly}
              onClick={() => desktop.setMode(viewOnly ? "control" : "view")}
            >
              <EyeIcon />
            </IconButton>
          }
        />
        <ClipboardButton
          desktop={desktop}
          state={now.clipboard}
          connected={now.painted && !viewOnly}
          container={panel}
        />
        <KeysMenu desktop={desktop} now={now} container={panel} />
        {touch && (
          <Toolbar.Button
            disabled={!now.painted || viewOnly}
            render={
              <IconButton
                label="On-screen keyboard"
                className="data-disabled:cursor-not-allowed data-disabled:opacity-50"
                onClick={() => keyboard.current?.open()}
              >
                <KeyboardIcon />
              </IconButton>
            }
          />
        )}
        {touch && now.scale === "actual" && (
          <Toolbar.Button
            render={
              <IconButton
                label="Drag to move the view"
                pressed={now.panning}
                onClick={() => desktop.setPanning(!now.panning)}
              >
                <HandIcon />
              </IconButton>
            }
          />
        )}
        <ScreenMenu desktop={desktop} now={now} narrow={narrow} container={panel} />
        {screen.can && (
          <Toolbar.Button
            render={
              <IconButton
                label={screen.on ? "Leave full screen" : "Full screen"}
                onClick={() => void screen.toggle().then(() => desktop.focus())}
              >
                {screen.on ? <SmallScreenIcon /> : <FullScreenIcon />}
              </IconButton>
            }
          />
        )}
        {children}
      </Toolbar.Root>
      <button
        type="button"
        onClick={() => after.current?.focus()}
        className="sr-only z-20 rounded-md bg-accent px-3 py-2 text-sm text-on-accent focus:not-sr-only focus:absolute focus:top-12 focus:left-2"
      >
        Skip the desktop
      </button>
      <div className="relative min-h-0 flex-1 has-[canvas:focus]:outline-2 has-[canvas:focus]:-outline-offset-2 has-[canvas:focus]:outline-accent group-fullscreen/panel:outline-none">
        <div ref={stage} className={`absolute inset-0 ${viewOnly ? "[&_canvas]:cursor-default!" : ""}`} />
        <Overlay desktop={desktop} now={now} onEnd={onEnd} />
        {screen.hint && (
          <output className="pointer-events-none absolute inset-x-0 bottom-6 mx-auto w-fit max-w-[90%] rounded-lg border border-line bg-raised px-3 py-2 text-center text-sm shadow-lg">
            Press Ctrl + Alt + Shift to leave the desktop; hold Esc to leave full screen. The toolbar is at the top.
          </output>
        )}
        <OnScreenKeyboard ref={keyboard} desktop={desktop} />
      </div>
      <div ref={after} tabIndex={-1} className="sr-only">
        After the desktop
      </div>
    </section>
  );
}

/** Reports whether the panel, which may be a part of the page, has no room for text. */
function useNarrow(panel: HTMLElement | null): boolean {
  const [narrow, setNarrow] = useState(false);
  useEffect(() => {
    if (!panel) return;
    const observer = new ResizeObserver(() => setNarrow(panel.clientWidth < 560));
    observer.observe(panel);
    return () => observer.disconnect();
  }, [panel]);
  return narrow;
}
