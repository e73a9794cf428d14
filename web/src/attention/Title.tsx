import { useWaiting } from "./store";
import { summary } from "./waiting";

/** The tab's title. It says so while any desktop waits for its user; here: the page itself knows of an answer. */
export function Title({ children, here = false }: { children: string; here?: boolean }) {
  const waiting = useWaiting();
  const answers = here || waiting.some((w) => !w.stops); // however many: a title is short
  const said = answers ? "Your answer is needed · " : waiting.length > 0 ? `${summary(waiting)} · ` : "";
  return <title>{`${said}${children} · CloudBot`}</title>;
}
