// A scrolled box that stays at its end unless the reader scrolls away.
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

const nearEnd = 48; // px

/** Returns the first visible message of a box, and its distance from the top of the scrolled content. */
function inSight(box: HTMLElement): { message: Element; at: number } | undefined {
  const edge = box.getBoundingClientRect().top;
  const message = [...box.querySelectorAll("article")].find((a) => a.getBoundingClientRect().bottom > edge);
  return message && { message, at: placeOf(message, box) };
}

const placeOf = (message: Element, box: HTMLElement) =>
  message.getBoundingClientRect().top - box.getBoundingClientRect().top + box.scrollTop;

/**
 * useEnd keeps a box scrolled to its end while the reader is there. Otherwise it keeps the visible messages in place,
 * whatever grows above them. written is when the user last sent a message, which scrolls to the end.
 */
export function useEnd(written: number) {
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const stuck = useRef(true);
  const height = useRef(0); // of the scrolled content, when the box last settled
  const shown = useRef(0); // height of the box then: a prompt below makes it smaller
  const read = useRef<ReturnType<typeof inSight>>(undefined);
  const lastWritten = useRef(written);
  const [atEnd, setAtEnd] = useState(true);

  const settle = useCallback(() => {
    const b = box.current;
    if (!b || b.clientHeight === 0) return; // hidden
    // The reader may have scrolled up in this frame, before the browser reports it.
    if (stuck.current && b.scrollHeight >= height.current && height.current - b.scrollTop - shown.current >= nearEnd) {
      stuck.current = false;
      setAtEnd(false);
      read.current = inSight(b);
    }
    height.current = b.scrollHeight;
    shown.current = b.clientHeight;
    if (stuck.current) {
      b.scrollTop = b.scrollHeight;
      return;
    }
    if (read.current?.message.isConnected) b.scrollTop += placeOf(read.current.message, b) - read.current.at;
    read.current = inSight(b);
  }, []);
  const stick = () => {
    stuck.current = true;
    height.current = 0;
  };
  useLayoutEffect(() => {
    if (written > lastWritten.current) stick();
    lastWritten.current = Math.max(written, lastWritten.current);
    settle();
  });
  useEffect(() => {
    const b = box.current;
    if (!b || !content.current) return undefined;
    const size = new ResizeObserver(settle);
    size.observe(content.current);
    size.observe(b);
    const scrolled = () => {
      if (b.clientHeight === 0) return;
      // A picture that arrived or a prompt below moved the end, not the reader.
      if (stuck.current && (b.scrollHeight > height.current || b.clientHeight !== shown.current)) return settle();
      height.current = b.scrollHeight;
      shown.current = b.clientHeight;
      const end = b.scrollHeight - b.scrollTop - b.clientHeight < nearEnd;
      stuck.current = end;
      setAtEnd(end);
      read.current = inSight(b);
    };
    b.addEventListener("scroll", scrolled, { passive: true });
    return () => {
      size.disconnect();
      b.removeEventListener("scroll", scrolled);
    };
  }, [settle]);

  const toEnd = () => {
    stick();
    setAtEnd(true);
    settle();
    box.current?.focus({ preventScroll: true });
  };
  /** Keeps the visible messages in place, even at the end. */
  const stay = () => {
    stuck.current = false;
    if (box.current) read.current = inSight(box.current);
  };
  return { box, content, atEnd, toEnd, stay };
}
