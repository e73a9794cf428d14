/**
 * Reports whether the focus was lost near e: the focused element is gone, and only an element around e has the focus.
 */
export const leftAround = (e: Element | null): boolean => document.activeElement?.contains(e) ?? true;

/**
 * Keeps the focus on the page. When the focused element disappears, as a button does whose work is done, the focus
 * moves to a focusable element around it, or to the start of the page. Call it once.
 */
export function keepFocus(): () => void {
  let path: EventTarget[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;
  const lost = () => path[0] instanceof HTMLElement && !path[0].isConnected && document.activeElement === document.body;
  const took = (e: FocusEvent) => (path = e.composedPath());
  const watch = new MutationObserver(() => {
    if (!lost()) return;
    // A dialog or a menu restores the focus shortly after it closes.
    timer ??= setTimeout(() => {
      timer = undefined;
      if (!lost()) return;
      const around = path.find(
        (e): e is HTMLElement => e instanceof HTMLElement && e.isConnected && e.hasAttribute("tabindex"),
      );
      (around ?? document.querySelector<HTMLElement>("main"))?.focus({ preventScroll: true });
    }, 60);
  });
  document.addEventListener("focusin", took);
  watch.observe(document.body, { childList: true, subtree: true });
  return () => {
    document.removeEventListener("focusin", took);
    watch.disconnect();
    clearTimeout(timer);
  };
}
