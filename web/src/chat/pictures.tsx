// The pictures of messages and tools: as sent, or loaded when they are about to be seen.
import { createContext, useContext, useEffect, useRef, useState } from "react";
import { Button, Spinner } from "@/ui";
import { WarnIcon } from "@/ui/icons";
import type { Left, Picture } from "./frames";
import { Refusal, type Gallery } from "./gallery";
import { size } from "./words";

const large = 512 << 10; // bytes; a larger picture is loaded on request
const nearby = "600px"; // above and below what is visible

/** Where pictures that were left out come from. */
export const PicturesFrom = createContext<{ gallery: Gallery; session: string } | undefined>(undefined);

/** name describes pictures without a description of their own. */
export function Pictures({ pictures = [], name }: { pictures?: Picture[] | undefined; name?: string }) {
  return pictures.map((p, n) => {
    const alt = p.alt || name || "Picture without a description";
    // oxlint-disable-next-line react/no-array-index-key -- they never change
    return p.left ? <LeftOut key={n} left={p.left} alt={alt} /> : <Shown key={n} src={p.src} alt={alt} />;
  });
}

const Shown = ({ src, alt }: { src: string; alt: string }) => (
  <img src={src} alt={alt} className="my-1.5 max-h-96 max-w-full rounded-lg border border-line object-contain" />
);

/** LeftOut shows a picture while it is near the visible part of the log. Far away, an empty space of its size stays. */
function LeftOut({ left, alt }: { left: Left; alt: string }) {
  const from = useContext(PicturesFrom);
  const place = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState(false);
  const [wanted, want] = useState(!left.file && left.bytes !== undefined && left.bytes <= large);
  const [src, setSrc] = useState<string>();
  const [failed, fail] = useState<string>();
  const [height, setHeight] = useState<number>();

  useEffect(() => {
    const at = place.current;
    if (!at) return undefined;
    const watch = new IntersectionObserver(([e]) => e && setNear(e.isIntersecting), {
      root: at.closest('[role="log"]'),
      rootMargin: nearby,
    });
    watch.observe(at);
    return () => watch.disconnect();
  }, []);

  useEffect(() => {
    if (!from || !wanted || !near || failed !== undefined) return undefined;
    let here = true;
    const box = place.current;
    from.gallery.load(from.session, left).then(
      (loaded) => here && setSrc(loaded),
      (error: unknown) =>
        here && fail(error instanceof Refusal ? error.message : "The connection was lost before the picture arrived."),
    );
    return () => {
      here = false;
      if (box) setHeight(box.offsetHeight);
      setSrc(undefined);
    };
  }, [from, left, wanted, near, failed]);

  const bytes = left.bytes === undefined ? "" : ` (${size(left.bytes)})`;
  return (
    <div ref={place} style={src === undefined && failed === undefined && height ? { height } : undefined}>
      {src !== undefined ? (
        <Shown src={src} alt={alt} />
      ) : (
        <div
          className={`my-1.5 flex ${wanted && failed === undefined ? "min-h-24" : ""} max-w-md flex-wrap items-center gap-x-3 gap-y-1.5 rounded-lg border border-line bg-sunken px-3 py-2 text-sm text-muted`}
        >
          {left.file ? (
            <span>
              {alt}
              {bytes}: a file on the desktop, which the chat can&apos;t show. Open it there.
            </span>
          ) : failed !== undefined ? (
            <>
              <WarnIcon className="size-4 shrink-0 text-warn" />
              <span className="min-w-0 flex-1">{failed}</span>
              <Button size="small" onClick={() => fail(undefined)}>
                Try again
              </Button>
            </>
          ) : wanted ? (
            <>
              <Spinner />
              <span>
                {alt}
                {bytes}
              </span>
            </>
          ) : (
            <>
              <span className="min-w-0 flex-1">
                {alt}
                {bytes}
              </span>
              <Button size="small" onClick={() => want(true)}>
                Show picture
              </Button>
            </>
          )}
        </div>
      )}
    </div>
  );
}
