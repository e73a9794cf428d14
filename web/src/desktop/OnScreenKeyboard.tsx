import { useImperativeHandle, useRef, type KeyboardEvent, type Ref } from "react";
import type { Desktop } from "./Desktop";
import { Backspace, Enter, Escape, Tab, type Key } from "./keys";

export interface OnScreenKeyboardHandle {
  open(): void;
}

// Text to delete: on-screen keyboards report a deletion only by the missing text.
const filler = "_".repeat(64);

const arrow = (code: string, keysym: number): Key => ({ name: code, code, keysym });
const named: Record<string, Key> = {
  Enter,
  Tab,
  Escape,
  Backspace,
  ArrowLeft: arrow("ArrowLeft", 0xff51),
  ArrowUp: arrow("ArrowUp", 0xff52),
  ArrowRight: arrow("ArrowRight", 0xff53),
  ArrowDown: arrow("ArrowDown", 0xff54),
};

/** An invisible field: focusing it makes a phone show its keyboard. Text typed into it goes to the desktop. */
export function OnScreenKeyboard({ desktop, ref }: { desktop: Desktop; ref: Ref<OnScreenKeyboardHandle> }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const before = useRef(filler);
  const reset = () => {
    before.current = filler;
    if (field.current) field.current.value = filler;
  };
  useImperativeHandle(ref, () => ({
    open: () => {
      reset();
      field.current?.focus({ preventScroll: true });
    },
  }));
  const input = (composing: boolean) => {
    const after = field.current?.value ?? "";
    desktop.keyboard.typed(before.current, after);
    before.current = after;
    if (!composing && (after.length < 8 || after.length > 512)) reset();
  };
  const keyDown = (e: KeyboardEvent) => {
    const key = named[e.key];
    if (!key || e.nativeEvent.isComposing) return;
    e.preventDefault();
    desktop.keyboard.tap(key);
  };
  return (
    <textarea
      ref={field}
      tabIndex={-1}
      aria-label="Type on the desktop"
      autoCapitalize="off"
      autoComplete="off"
      autoCorrect="off"
      spellCheck={false}
      defaultValue={filler}
      onInput={(e) => input((e.nativeEvent as InputEvent).isComposing)}
      onKeyDown={keyDown}
      className="pointer-events-none absolute bottom-0 left-0 size-px resize-none text-base opacity-0"
    />
  );
}
