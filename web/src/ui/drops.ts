// Files that are dragged over the page. A file that is dropped beside a target would replace the page, so that is refused.
import { useSyncExternalStore } from "react";
import { toast } from "./toast";

const quiet = 600; // ms without an event after which a drag is over: one that leaves the window is not always reported

let dragging = false;
let end: ReturnType<typeof setTimeout> | undefined;
const listeners = new Set<() => void>();

/** Marks an element that takes files. */
export const dropTarget = { "data-drop-files": true };

export const hasFiles = (e: DragEvent) => e.dataTransfer?.types.includes("Files") === true;

function set(value: boolean) {
  clearTimeout(end);
  if (value) end = setTimeout(() => set(false), quiet);
  if (value === dragging) return;
  dragging = value;
  for (const listener of listeners) listener();
  const visible = [...document.querySelectorAll("[data-drop-files]")].some((t) => t.getClientRects().length > 0);
  if (value && !visible)
    toast({
      title: "Files can't be dropped here.",
      detail: "Drop them on the chat with a desktop's agent.",
      tone: "warn",
    });
}

/** guardDrops refuses files everywhere but on targets, whose own handlers run first. */
export function guardDrops() {
  for (const type of ["dragenter", "dragover", "drop"] as const)
    window.addEventListener(type, (e) => {
      if (!hasFiles(e)) return;
      set(type !== "drop");
      if (e.defaultPrevented) return;
      e.preventDefault();
      e.dataTransfer!.dropEffect = "none";
    });
}

/** useDragging reports whether files are being dragged over the page. */
export const useDragging = () =>
  useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => dragging,
  );
