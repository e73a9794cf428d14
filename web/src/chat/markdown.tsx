// Answers as Markdown. Loaded with the first answer: the parser is large.
import { isValidElement, memo, type ComponentProps, type ReactNode } from "react";
import Parser, { type Components } from "react-markdown";
import gfm from "remark-gfm";
import { useCopy } from "@/ui/copy";
import { CheckIcon, CopyIcon } from "@/ui/icons";
import { Scroll } from "./scroll";

/** outside returns an address that a link may lead to; undefined for any other. */
export function outside(href: unknown): string | undefined {
  if (typeof href !== "string") return undefined;
  try {
    const url = new URL(href); // relative addresses mean nothing here and fail
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}

function Link({ href, children }: { href?: string | undefined; children?: ReactNode }) {
  const to = outside(href);
  if (!to) return <span>{children}</span>;
  return (
    <a
      href={to}
      target="_blank"
      rel="noopener noreferrer"
      className="break-words text-accent-ink underline underline-offset-2"
    >
      {children}
    </a>
  );
}

/** The picture is not loaded: its server would learn of the reader. */
function Picture({ src, alt }: { src?: unknown; alt?: string | undefined }) {
  return <Link {...(typeof src === "string" ? { href: src } : {})}>Picture{alt ? `: ${alt}` : ""}</Link>;
}

/** code returns the text of a code block and the name of its language. */
function code(children: ReactNode): { text: string; language: string } {
  const child: unknown = Array.isArray(children) ? children[0] : children;
  const props = isValidElement<{ className?: string; children?: ReactNode }>(child) ? child.props : {};
  return {
    text: String(props.children ?? ""),
    language: /language-([\w+#.-]{1,30})/.exec(props.className ?? "")?.[1] ?? "",
  };
}

function Block({ children }: { children?: ReactNode }) {
  const { text, language } = code(children);
  return (
    <div className="my-2 overflow-hidden rounded-lg border border-line bg-sunken">
      <div className="flex min-h-9 items-center justify-between border-b border-line pl-3 text-xs text-muted">
        <span>{language || "Code"}</span>
        <Copy text={text} what={language ? `the ${language} code` : "the code"} />
      </div>
      <Scroll
        pre
        label={language ? `${language} code` : "Code"}
        className="overflow-x-auto p-3 font-mono text-[0.8125rem] leading-relaxed"
      >
        <code>{text}</code>
      </Scroll>
    </div>
  );
}

export function Copy({ text, what }: { text: string; what: string }) {
  const { outcome, copy } = useCopy(text);
  return (
    <button
      type="button"
      onClick={() => void copy()}
      aria-label={`Copy ${what}`}
      className="inline-flex min-h-9 items-center gap-1.5 px-3 hover:text-ink"
    >
      {outcome === "copied" ? <CheckIcon className="size-4" /> : <CopyIcon className="size-4" />}
      <output>{outcome === "copied" ? "Copied" : outcome === "refused" ? "Could not copy" : "Copy"}</output>
    </button>
  );
}

function heading(level: 3 | 4 | 5 | 6, look: string) {
  const Tag = `h${level}` as const;
  return ({ children }: { children?: ReactNode }) => (
    <Tag className={`mt-4 mb-1.5 font-semibold first:mt-0 ${look}`}>{children}</Tag>
  );
}

// The page has its own headings above these.
const components: Components = {
  h1: heading(3, "text-lg"),
  h2: heading(4, "text-base"),
  h3: heading(5, "text-sm"),
  h4: heading(6, "text-sm"),
  h5: heading(6, "text-sm"),
  h6: heading(6, "text-sm"),
  a: Link,
  img: Picture,
  pre: Block,
  code: ({ children }) => (
    <code className="rounded bg-sunken px-1 py-0.5 font-mono text-[0.875em] break-words">{children}</code>
  ),
  p: ({ children }) => <p className="my-2 leading-relaxed break-words first:mt-0 last:mb-0">{children}</p>,
  ul: ({ children }) => <ul className="my-2 list-disc pl-6">{children}</ul>,
  ol: ({ children, start }) => (
    <ol start={start} className="my-2 list-decimal pl-6">
      {children}
    </ol>
  ),
  li: ({ children }) => <li className="my-0.5 leading-relaxed break-words">{children}</li>,
  blockquote: ({ children }) => (
    <blockquote className="my-2 border-l-4 border-line pl-3 text-muted">{children}</blockquote>
  ),
  hr: () => <hr className="my-4 border-line" />,
  table: ({ children }) => (
    <Scroll label="Table" className="my-2 overflow-x-auto">
      <table className="border-collapse text-sm">{children}</table>
    </Scroll>
  ),
  th: ({ children }) => (
    <th className="border border-line bg-sunken px-2.5 py-1.5 text-left font-semibold">{children}</th>
  ),
  td: ({ children }) => <td className="border border-line px-2.5 py-1.5 align-top">{children}</td>,
  input: ({ checked }: ComponentProps<"input">) => (
    <input
      type="checkbox"
      checked={checked === true}
      disabled
      aria-label={checked ? "done" : "to do"}
      className="mr-1.5 align-middle"
    />
  ),
};

const plugins = [gfm];

/** HTML in the text stays text, because no plug-in parses it. */
const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <Parser remarkPlugins={plugins} components={components} urlTransform={(url) => outside(url) ?? ""}>
      {text}
    </Parser>
  );
});
export default Markdown;
