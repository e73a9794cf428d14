// Finds a text in messages and highlights it where they are shown.
import type { Message } from "./frames";

const mostMarked = 1_000; // places

/** Returns a text without what Markdown hides, for comparing. */
const fold = (text: string) =>
  text
    .toLowerCase()
    .replaceAll(/[*_`~]+/g, "")
    .replaceAll(/\s+/g, " ");

// A message never changes, only its place may be taken by another. All of them can have many megabytes of text.
const folded = new WeakMap<Message, string>();

function foldedOf(m: Message): string {
  const known = folded.get(m);
  if (known !== undefined) return known;
  const text = fold(m.text);
  folded.set(m, text);
  return text;
}

/** found returns the ids of the messages whose text contains the query, oldest first. */
export function found(messages: Message[], query: string): string[] {
  const wanted = fold(query).trim();
  return wanted === "" ? [] : messages.flatMap((m) => (foldedOf(m).includes(wanted) ? [m.id] : []));
}

/**
 * highlight marks the query in what an element shows, without changing the element, and returns what ends that. The
 * places in the current message are marked differently.
 */
export function highlight(within: Element, query: string, current: string | undefined): () => void {
  if (!("highlights" in CSS)) return () => undefined;
  const all = new Highlight();
  const here = new Highlight();
  let left = mostMarked;
  for (const message of within.querySelectorAll<HTMLElement>("[data-message]")) {
    if (left === 0) break;
    const ranges = rangesIn(message, query.trim(), left);
    left -= ranges.length;
    for (const r of ranges) (message.dataset.message === current ? here : all).add(r);
  }
  CSS.highlights.set("found", all);
  CSS.highlights.set("found-here", here);
  return () => {
    CSS.highlights.delete("found");
    CSS.highlights.delete("found-here");
  };
}

/** scrollTo scrolls to the first place of the query in a message, or to the message. */
export function scrollTo(within: Element, query: string, id: string): void {
  const message = within.querySelector(`[data-message="${CSS.escape(id)}"]`);
  if (!message) return;
  const [first] = rangesIn(message, query.trim(), 1);
  (first?.startContainer.parentElement ?? message).scrollIntoView({ block: "center" });
}

/** Returns a text in lower case. A character whose lower case is longer stays: it would shift what follows. */
const lower = (text: string) =>
  [...text].map((c) => (c.toLowerCase().length === c.length ? c.toLowerCase() : c)).join("");

/** rangesIn returns where an element shows the query: also over several text nodes, as in a text with strong words. */
function rangesIn(element: Element, query: string, most: number): Range[] {
  const wanted = query.toLowerCase().replaceAll(/\s+/g, " ");
  const nodes: Text[] = [];
  const walk = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) nodes.push(walk.currentNode as Text);
  const text = lower(nodes.map((n) => n.data).join("")).replaceAll(/\s/g, " ");
  const starts: number[] = [];
  nodes.reduce((at, n) => (starts.push(at), at + n.data.length), 0);
  const nodeAt = (at: number) => starts.findLastIndex((s) => s <= at);
  const ranges: Range[] = [];
  if (wanted === "") return ranges;
  for (let at = text.indexOf(wanted); at >= 0 && ranges.length < most;) {
    const range = document.createRange();
    const first = nodeAt(at);
    const last = nodeAt(at + wanted.length - 1);
    range.setStart(nodes[first]!, at - starts[first]!);
    range.setEnd(nodes[last]!, at + wanted.length - starts[last]!);
    ranges.push(range);
    at = text.indexOf(wanted, at + wanted.length);
  }
  return ranges;
}
