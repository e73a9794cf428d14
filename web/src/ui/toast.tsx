import { lazy, Suspense } from "react";
import type { Tone } from "./notice";

const load = () => import("./toast-list");
const List = lazy(async () => ({ default: (await load()).Toasts }));

/** Tells something in passing; bad news stays until it is closed. */
export function toast({ title, detail, tone = "info" }: { title: string; detail?: string; tone?: Tone }) {
  void load().then(({ manager }) => manager.add({ title, description: detail, type: tone, timeout: tone === "bad" ? 0 : 6000, priority: tone === "bad" ? "high" : "low" }));
}

export function Toasts() {
  return (
    <Suspense>
      <List />
    </Suspense>
  );
}
