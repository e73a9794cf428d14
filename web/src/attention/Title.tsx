import { useWaiting } from "./store";

/** The tab's title. It says so while any desktop waits for an answer; here: the page itself knows of one. */
export function Title({ children, here = false }: { children: string; here?: boolean }) {
  const waiting = useWaiting().length > 0 || here;
  return <title>{`${waiting ? "Your answer is needed · " : ""}${children} · CloudBot`}</title>;
}
