import { useLayoutEffect, useState } from "react";

/**
 * Returns an element for a portal that is moved to place. Its contents keep their state, such as an open menu, and the
 * focus.
 */
export function usePlaced(place: HTMLElement | null): HTMLElement {
  const [host] = useState(() => {
    const element = document.createElement("div");
    element.className = "contents";
    return element;
  });
  useLayoutEffect(() => {
    const focused = document.activeElement;
    const inside = host.contains(focused);
    if (place) place.append(host);
    else host.remove();
    if (inside && focused instanceof HTMLElement) focused.focus({ preventScroll: true });
  }, [host, place]);
  useLayoutEffect(() => () => host.remove(), [host]);
  return host;
}
