/** Whether nobody but something around e has the focus: whoever had it is gone, and it was left to the page. */
export const leftAround = (e: Element | null): boolean => document.activeElement?.contains(e) ?? true;

/**
 * Keeps the focus in the page: where the element that has it goes away, as a button does whose work is done,
 * it goes to what was around it and can take it, else to the page's beginning. Call it once.
 */
export function keepFocus(): () => void {
  let path: EventTarget[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;
  const lost = () => path[0] instanceof HTMLElement && !path[0].isConnected && document.activeElement === document.body;
  const took = (e: FocusEvent) => (path = e.composedPath());
  const watch = new MutationObserver(() => {
    if (!lost()) return;
    // A dialog or a menu that closes gives the focus back by itself, a moment later.
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
