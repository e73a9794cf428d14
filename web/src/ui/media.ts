import { useSyncExternalStore } from "react";

/** Reports whether a media query matches, and follows changes. */
export function useMedia(query: string): boolean {
  return useSyncExternalStore(
    (changed) => {
      const list = matchMedia(query);
      list.addEventListener("change", changed);
      return () => list.removeEventListener("change", changed);
    },
    () => matchMedia(query).matches,
  );
}

/** The room in the bar of a desktop's page: for words (wide), for all icons, or only for those needed most (narrow). */
export const useBarRoom = () => ({ wide: useMedia("(min-width: 72rem)"), narrow: useMedia("(max-width: 39.99rem)") });
