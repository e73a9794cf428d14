import { useEffect, useState } from "react";

/** Chromium only, for shortcuts such as Alt+Tab and Ctrl+W. */
type KeyboardLock = { lock(): Promise<void>; unlock(): void };
const keyboard = () => (navigator as Navigator & { keyboard?: KeyboardLock }).keyboard;

const hintFor = 5000; // ms

/** Full screen of one element. All keys go to the page if the browser has a Keyboard Lock. */
export function useFullScreen(element: HTMLElement | null) {
  const [on, setOn] = useState(false);
  const [hint, setHint] = useState(false);
  useEffect(() => {
    if (!element) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const changed = () => {
      const full = document.fullscreenElement === element;
      setOn(full);
      setHint(full);
      clearTimeout(timer);
      if (full) {
        timer = setTimeout(() => setHint(false), hintFor);
        keyboard()
          ?.lock()
          .catch(() => {}); // refused: the browser keeps its shortcuts
      } else {
        keyboard()?.unlock();
      }
    };
    document.addEventListener("fullscreenchange", changed);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("fullscreenchange", changed);
    };
  }, [element]);
  const toggle = async () => {
    try {
      await (on ? document.exitFullscreen() : element?.requestFullscreen({ navigationUI: "hide" }));
    } catch {
      // refused: nothing changes
    }
  };
  return { can: document.fullscreenEnabled, on, hint, toggle };
}
