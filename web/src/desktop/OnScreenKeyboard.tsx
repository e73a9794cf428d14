import { useEffect, useRef, type ReactNode } from "react";
import type { Desktop } from "./Desktop";
import { Alt, Control, Escape, Tab, type Key } from "./keys";
import { onKeyboardGone } from "./phoneKeyboard";

const arrow = (name: string, code: string, keysym: number): Key => ({ name, code, keysym });
const arrows = [
  { sign: "←", key: arrow("Left", "ArrowLeft", 0xff51) },
  { sign: "↑", key: arrow("Up", "ArrowUp", 0xff52) },
  { sign: "↓", key: arrow("Down", "ArrowDown", 0xff54) },
  { sign: "→", key: arrow("Right", "ArrowRight", 0xff53) },
];

/** The keys that an on-screen keyboard lacks. Ctrl and Alt stay down until the next key. They go with the keyboard. */
export function OnScreenKeyboard({ desktop, held }: { desktop: Desktop; held: readonly Key[] }) {
  const strip = useRef<HTMLDivElement>(null);
  useEffect(() => onKeyboardGone(desktop.field.element, strip.current!, () => desktop.setOnScreen(false)), [desktop]);
  useEffect(() => () => desktop.keyboard.releaseHeld(), [desktop]); // nothing would show that they are down
  const press = (key: Key) => {
    desktop.field.settle();
    desktop.keyboard.press({ name: key.name, keys: [key] });
  };
  return (
    <div
      ref={strip}
      role="group"
      aria-label="More keys"
      className="z-10 flex shrink-0 gap-1 overflow-x-auto border-t border-line bg-panel p-1"
    >
      {[Control, Alt].map((key) => (
        <Cap
          key={key.name}
          pressed={held.includes(key)}
          onClick={() => desktop.keyboard.hold(key, !held.includes(key))}
        >
          {key.name}
        </Cap>
      ))}
      {[Escape, Tab].map((key) => (
        <Cap key={key.name} onClick={() => press(key)}>
          {key.name}
        </Cap>
      ))}
      {arrows.map(({ sign, key }) => (
        <Cap key={key.name} label={key.name} onClick={() => press(key)}>
          {sign}
        </Cap>
      ))}
    </div>
  );
}

function Cap(p: { label?: string; pressed?: boolean; onClick: () => void; children: ReactNode }) {
  return (
    <button
      type="button"
      aria-label={p.label}
      aria-pressed={p.pressed}
      onMouseDown={(e) => e.preventDefault()} // the keyboard closes if the text field loses the focus
      onClick={p.onClick}
      className="h-10 min-w-10 flex-1 rounded-md border border-line px-1.5 text-sm aria-pressed:bg-accent-soft aria-pressed:text-accent-ink"
    >
      {p.children}
    </button>
  );
}
