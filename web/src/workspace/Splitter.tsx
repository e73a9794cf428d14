import { useRef, useState, type ReactNode } from "react";
import { splitter } from "@/views";

const storageKey = "cloudbot.split";
const least = 20,
  most = 80; // percent of the first panel

type Props = {
  first: ReactNode;
  second: ReactNode;
  /** One above the other. */
  vertical: boolean;
  /** Only this panel is visible; the other one stays unchanged. */
  only?: "first" | "second" | undefined;
  /** The least size of each, in pixels: a height or a width. If there is less, the first one shrinks. */
  smallest: [first: number, second: number];
  /** Called when a panel gets the focus. */
  onFocus: (panel: "first" | "second") => void;
};

/** Two panels with a bar between them that can be dragged, or moved with the arrow keys. */
export function Splitter({ first, second, vertical, only, smallest, onFocus }: Props) {
  const [share, setShare] = useState(() => clamp(Number(localStorage.getItem(storageKey)) || 65));
  const box = useRef<HTMLDivElement>(null);
  const set = (percent: number) => {
    const room = (vertical ? box.current!.clientHeight : box.current!.clientWidth) - splitter;
    const [from, to] = [smallest[0] / room, 1 - smallest[1] / room];
    const now = clamp(Math.max(from * 100, Math.min(to * 100, percent)));
    setShare(now);
    localStorage.setItem(storageKey, String(Math.round(now)));
  };
  const move = (x: number, y: number) => {
    const r = box.current!.getBoundingClientRect();
    set(vertical ? ((y - r.top) / r.height) * 100 : ((x - r.left) / r.width) * 100);
  };
  const size = (part: number, pixels: string) => ({
    flex: `${part} 1 0`,
    [vertical ? "minHeight" : "minWidth"]: only ? 0 : `min(${pixels})`,
  });
  return (
    <div ref={box} className={`flex h-full min-h-0 min-w-0 ${vertical ? "flex-col" : ""}`}>
      <div
        hidden={only === "second"}
        className="min-h-0 min-w-0 overflow-hidden"
        style={size(share, `${smallest[0]}px, 100% - ${smallest[1] + splitter}px`)}
        onFocus={() => onFocus("first")}
      >
        {first}
      </div>
      <div
        hidden={only !== undefined}
        role="separator"
        tabIndex={0}
        aria-label={vertical ? "Height of the desktop" : "Width of the desktop"}
        aria-orientation={vertical ? "horizontal" : "vertical"}
        aria-valuemin={least}
        aria-valuemax={most}
        aria-valuenow={Math.round(share)}
        aria-valuetext={`Desktop ${Math.round(share)} %, chat ${100 - Math.round(share)} %`}
        onPointerDown={(e) => {
          e.preventDefault();
          e.currentTarget.setPointerCapture(e.pointerId);
        }}
        onPointerMove={(e) => e.currentTarget.hasPointerCapture(e.pointerId) && move(e.clientX, e.clientY)}
        onDoubleClick={() => set(65)}
        onKeyDown={(e) => {
          const step = {
            ArrowLeft: -2,
            ArrowUp: -2,
            ArrowRight: 2,
            ArrowDown: 2,
            PageUp: -10,
            PageDown: 10,
            Home: -100,
            End: 100,
          }[e.key];
          if (step === undefined) return;
          e.preventDefault();
          set(share + step);
        }}
        className={`group flex shrink-0 touch-none items-center justify-center bg-line hover:bg-accent-soft forced-colors:border ${vertical ? "h-2.5 w-full cursor-row-resize" : "h-full w-2.5 cursor-col-resize"}`}
      >
        <span
          className={`rounded-full bg-outline group-hover:bg-accent-ink forced-colors:bg-[ButtonText] ${vertical ? "h-1 w-10" : "h-10 w-1"}`}
        />
      </div>
      <div
        hidden={only === "first"}
        className="min-h-0 min-w-0"
        style={size(100 - share, `${smallest[1]}px, 100% - ${splitter}px`)}
        onFocus={() => onFocus("second")}
      >
        {second}
      </div>
    </div>
  );
}

const clamp = (percent: number) => Math.min(most, Math.max(least, percent));
