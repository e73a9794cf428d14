import { Toolbar } from "@base-ui/react/toolbar";
import { useState, type ReactNode, type Ref } from "react";
import { IconButton } from "@/ui";
import { EyeIcon, FullScreenIcon, KeyboardIcon } from "@/ui/icons";
import { useMedia } from "@/ui/media";
import { ClipboardButton } from "./ClipboardButton";
import type { Desktop } from "./Desktop";
import { HandIcon, SmallScreenIcon, ToolsIcon } from "./icons";
import { KeysMenu, ScreenMenu } from "./menus";
import type { DesktopSnapshot } from "./snapshot";
import type { useFullScreen } from "./useFullScreen";

type Props = {
  desktop: Desktop;
  now: DesktopSnapshot;
  screen: ReturnType<typeof useFullScreen>;
  /** Shows icons without words. */
  brief: boolean;
  /** Shows what is needed most; a button shows the rest below the bar. */
  folded: boolean;
  /** The page's own button. */
  button: ((brief: boolean) => ReactNode) | undefined;
  /** Menus open within it: full screen shows nothing else. */
  container: HTMLElement | null;
  /** Gets the focus when the user leaves the desktop. */
  way: Ref<HTMLButtonElement>;
};

/** A desktop's tools. The second toolbar keeps its place in the tree when it is folded, so an open menu stays open. */
export function Tools({ desktop, now, screen, brief, folded, button, container, way }: Props) {
  const [unfolded, unfold] = useState(false);
  const touch = useMedia("(any-pointer: coarse)");
  const viewOnly = now.mode === "view";
  const [focused, setFocused] = useState(now.focused);
  if (focused !== now.focused) {
    setFocused(now.focused);
    if (now.focused) unfold(false); // the user works on the screen, which the tools cover
  }
  return (
    <>
      <Toolbar.Root aria-label="Desktop" className="flex items-center gap-0.5">
        {button?.(brief)}
        {touch && (
          <Toolbar.Button
            disabled={!now.painted || viewOnly}
            render={
              <IconButton
                label="On-screen keyboard"
                pressed={now.onScreen}
                className="data-disabled:cursor-not-allowed data-disabled:opacity-50"
                onClick={() => desktop.setOnScreen(!now.onScreen)}
              >
                <KeyboardIcon />
              </IconButton>
            }
          />
        )}
        {folded && (
          <Toolbar.Button
            ref={way}
            render={
              <IconButton
                label="Desktop tools"
                aria-expanded={unfolded}
                className="aria-expanded:bg-accent-soft aria-expanded:text-accent-ink"
                onClick={() => unfold(!unfolded)}
              >
                <ToolsIcon />
              </IconButton>
            }
          />
        )}
      </Toolbar.Root>
      <Toolbar.Root
        aria-label="Desktop tools"
        className={`flex items-center gap-0.5 ${folded ? `absolute top-full right-1 z-30 rounded-b-lg border border-t-0 border-line bg-panel p-1 shadow-lg ${unfolded ? "" : "not-has-data-popup-open:hidden"}` : ""}`}
      >
        <Toolbar.Button
          ref={folded ? undefined : way}
          render={
            <IconButton
              label="View only"
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
          container={container}
        />
        <KeysMenu desktop={desktop} now={now} container={container} />
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
        <ScreenMenu desktop={desktop} now={now} narrow={brief} container={container} />
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
      </Toolbar.Root>
    </>
  );
}
