import { Toolbar } from "@base-ui/react/toolbar";
import { IconButton, Menu, MenuCheck, MenuItem, MenuRadio, MenuSeparator } from "@/ui";
import { ChevronIcon } from "@/ui/icons";
import type { Desktop } from "./Desktop";
import type { DesktopSnapshot } from "./snapshot";
import { KeyCapIcon, ScreenIcon } from "./icons";
import { combinations, functionKeys, modifiers } from "./keys";
import { sizeLine } from "./status";

type Props = { desktop: Desktop; now: DesktopSnapshot; container: HTMLElement | null };

/** Keys that a browser reserves or that a phone lacks. */
export function KeysMenu({ desktop, now, container }: Props) {
  const off = !now.painted || now.mode === "view";
  const held = now.held.map((k) => k.name).join(" + ");
  return (
    <Menu
      container={container}
      trigger={
        <Toolbar.Button
          disabled={off}
          render={
            <IconButton
              label={held ? `Keys; ${held} held` : "Keys"}
              className={`data-disabled:cursor-not-allowed data-disabled:opacity-50 ${held ? "bg-accent-soft text-accent-ink" : ""}`}
            >
              <KeyCapIcon />
            </IconButton>
          }
        />
      }
    >
      {combinations.map((c) => (
        <MenuItem key={c.name} onSelect={() => desktop.keyboard.press(c)}>
          {c.name}
        </MenuItem>
      ))}
      <MenuSeparator />
      <div className="grid grid-cols-4">
        {functionKeys.map((k) => (
          <MenuItem key={k.name} onSelect={() => desktop.keyboard.press({ name: k.name, keys: [k] })}>
            {k.name}
          </MenuItem>
        ))}
      </div>
      <MenuSeparator />
      {modifiers.map((k) => (
        <MenuCheck key={k.name} checked={now.held.includes(k)} onChange={(on) => desktop.keyboard.hold(k, on)}>
          Hold {k.name}
        </MenuCheck>
      ))}
      <MenuSeparator />
      <p className="max-w-60 px-3 py-1.5 text-xs text-muted">
        Press Ctrl + Alt + Shift, and no other key, to leave the desktop.
      </p>
    </Menu>
  );
}

const scales = { fit: "Fit", match: "Match", actual: "Actual size" };
const details = ["lowest", "low", "high", "highest"];

/** The size and the detail of the picture. */
export function ScreenMenu({ desktop, now, narrow, container }: Props & { narrow: boolean }) {
  const noMatch =
    now.mode === "view"
      ? "Not available in view only"
      : now.takesSize === false
        ? "This desktop's server has a fixed size"
        : "";
  const scale = noMatch && now.scale === "match" ? "fit" : now.scale; // what the page shows
  const matching = sizeLine(now) || "Resizes the desktop to this window";
  const trigger = narrow ? (
    <IconButton label={`Screen: ${scales[scale]}`}>
      <ScreenIcon />
    </IconButton>
  ) : (
    <button
      type="button"
      aria-label={`Screen: ${scales[scale]}`}
      className="inline-flex h-9 items-center gap-1.5 rounded-md px-2 text-sm hover:bg-sunken forced-colors:border"
    >
      <ScreenIcon />
      {scales[scale]}
      <ChevronIcon className="size-4" />
    </button>
  );
  return (
    <Menu container={container} trigger={<Toolbar.Button render={trigger} />}>
      <MenuRadio
        label="Size"
        value={scale}
        onChange={(chosen) => desktop.setScale(chosen)}
        options={[
          { value: "fit", label: "Fit", hint: "The whole desktop, scaled" },
          { value: "match", label: "Match", hint: noMatch || matching, disabled: noMatch !== "" },
          { value: "actual", label: "Actual size", hint: "Not scaled, with scrolling" },
        ]}
      />
      <MenuItem disabled={noMatch !== "" || !now.painted} hint="For all viewers" onSelect={() => desktop.resetSize()}>
        Reset size
      </MenuItem>
      <MenuSeparator />
      <MenuRadio
        label="Quality"
        value={now.quality}
        onChange={(quality) => desktop.setQuality(quality)}
        options={[
          {
            value: "automatic",
            label: "Automatic",
            hint: now.painted ? `Now: ${details[now.level]} detail` : "Adapts to your connection",
          },
          { value: "best", label: "Best" },
          { value: "slow", label: "Slow connection", hint: "Uses the least data; photos look coarse" },
        ]}
      />
    </Menu>
  );
}
