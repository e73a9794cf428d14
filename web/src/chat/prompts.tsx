// The agent's requests for a decision, answered in place.
import { useId, useRef, useState, type FormEvent, type ReactNode } from "react";
import { Button, toast } from "@/ui";
import { TimeLeft } from "@/ui/time";
import { Covers } from "./allowedDialog";
import type { ChatConnection } from "./connection";
import type { Approval, Decision, Inquiry, Question } from "./frames";
import type { ChatState } from "./state";
import { Scroll } from "./scroll";

type Props = {
  connection: ChatConnection;
  chat: ChatState;
  open: boolean;
  /** The pressed button has disappeared. */
  onDone: () => void;
};

export function Prompts({ connection, chat, open, onDone }: Props) {
  const titleOf = (key: string | undefined) =>
    key === undefined || key === chat.current
      ? undefined
      : (chat.sessions.find((s) => s.key === key)?.title ?? "another chat");
  const elsewhere = (key: string | undefined) => {
    const title = titleOf(key);
    return title === undefined || key === undefined ? null : (
      <p className="text-xs text-muted">
        This is about{" "}
        <button
          type="button"
          onClick={() => {
            connection.open(key);
            onDone();
          }}
          className="min-h-6 text-accent-ink underline"
        >
          {title}
        </button>
        .
      </p>
    );
  };
  return (
    <div
      aria-live="polite"
      className="flex max-h-[55%] shrink-0 flex-col items-center gap-2 overflow-y-auto px-3 pt-2 empty:hidden sm:px-5"
    >
      {chat.approvals.map((a) => (
        <ApprovalCard key={a.id} approval={a} connection={connection} open={open} onDone={onDone}>
          {elsewhere(a.session)}
        </ApprovalCard>
      ))}
      {chat.inquiries.map((q) => (
        <InquiryCard key={q.id} inquiry={q} connection={connection} open={open} onDone={onDone}>
          {elsewhere(q.session)}
        </InquiryCard>
      ))}
    </div>
  );
}

const card = "flex w-full max-w-3xl flex-col gap-3 rounded-lg border-2 border-warn bg-warn-soft p-3 text-sm text-ink";

const names: Record<Decision, string> = { "allow-once": "Allow once", "allow-always": "Always allow", deny: "Deny" };

/** refused shows why an answer was not accepted; it may be too late for it. */
function refused(error: unknown) {
  toast({ title: "Your answer was not accepted.", detail: error instanceof Error ? error.message : "", tone: "bad" });
}

type CardProps = Omit<Props, "chat"> & { children: ReactNode };

function ApprovalCard({ approval: a, connection, open, onDone, children }: CardProps & { approval: Approval }) {
  const title = useId();
  const [busy, setBusy] = useState<Decision>();
  const decide = async (decision: Decision) => {
    setBusy(decision);
    try {
      await connection.decide(a, decision);
      onDone();
    } catch (error) {
      refused(error);
      setBusy(undefined);
    }
  };
  return (
    <section aria-labelledby={title} className={card}>
      <h3 id={title} className="font-semibold">
        {a.title}
      </h3>
      {a.command && (
        <Scroll
          pre
          label="Command"
          className="max-h-40 overflow-auto rounded border border-line bg-panel p-2 font-mono text-xs break-words whitespace-pre-wrap"
        >
          {a.command}
        </Scroll>
      )}
      {a.detail && <p className="max-h-40 overflow-y-auto text-xs break-words whitespace-pre-wrap">{a.detail}</p>}
      {children}
      {a.over ? (
        <Over
          words="The agent restarted before you answered, so it did not do this. Ask it again if you still need it."
          onDismiss={() => {
            connection.dismiss(a.id);
            onDone();
          }}
        />
      ) : (
        <div className="flex flex-wrap gap-2">
          {a.decisions.map((d) => (
            <Button
              key={d}
              size="small"
              variant={d === "allow-once" ? "primary" : "plain"}
              busy={busy === d}
              disabled={!open || busy !== undefined}
              onClick={() => void decide(d)}
            >
              {names[d]}
            </Button>
          ))}
          <Deadline at={a.expiresAt} />
        </div>
      )}
      <Covers approval={a} connection={connection} />
    </section>
  );
}

/** The time that is left for an answer. The cards are announced when they appear, and this is not at each change. */
function Deadline({ at }: { at: number }) {
  return (
    <span aria-live="off" className="ml-auto self-center text-xs">
      <TimeLeft until={at} />
    </span>
  );
}

/** Over replaces the buttons of a request that can no longer be answered. */
function Over({ words, onDismiss }: { words: string; onDismiss: () => void }) {
  return (
    <>
      <p>{words}</p>
      <Button size="small" className="self-start" onClick={onDismiss}>
        Dismiss
      </Button>
    </>
  );
}

/** own stands for an answer in the user's own words; no option has this label. */
const own = "\u0000own";

function InquiryCard({ inquiry, connection, open, onDone, children }: CardProps & { inquiry: Inquiry }) {
  // By question id, which the machine chooses.
  const [chosen, setChosen] = useState<ReadonlyMap<string, string[]>>(new Map());
  const [words, setWords] = useState<ReadonlyMap<string, string>>(new Map());
  const [missing, setMissing] = useState<string[]>([]);
  const [busy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);

  const answers = (q: Question): string[] => {
    const said = (words.get(q.id) ?? "").trim();
    const picked = q.options.length === 0 ? [own] : (chosen.get(q.id) ?? []);
    return picked.flatMap((c) => (c === own ? (said ? [said] : []) : [c]));
  };
  const give = async (all: Record<string, string[]> | undefined) => {
    setBusy(true);
    try {
      await connection.answer(inquiry.id, all);
      onDone();
    } catch (error) {
      refused(error);
      setBusy(false);
    }
  };
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const without = inquiry.questions.filter((q) => answers(q).length === 0).map((q) => q.id);
    setMissing(without);
    const first = inquiry.questions.findIndex((q) => q.id === without[0]);
    if (first >= 0) form.current?.querySelectorAll("fieldset")[first]?.querySelector("input")?.focus();
    else void give(Object.fromEntries(inquiry.questions.map((q) => [q.id, answers(q)])));
  };
  if (inquiry.over)
    return (
      <section aria-label="Question from the agent" className={card}>
        {inquiry.questions.map((q) => (
          <p key={q.id} className="font-semibold break-words">
            {q.text}
          </p>
        ))}
        {children}
        <Over
          words="The agent restarted before you answered. It may ask you again."
          onDismiss={() => {
            connection.dismiss(inquiry.id);
            onDone();
          }}
        />
      </section>
    );
  return (
    <form ref={form} onSubmit={submit} aria-label="Question from the agent" className={card}>
      {inquiry.questions.map((q) => (
        <Asked
          key={q.id}
          question={q}
          chosen={chosen.get(q.id) ?? []}
          words={words.get(q.id) ?? ""}
          missing={missing.includes(q.id)}
          onChoose={(c) => setChosen(new Map(chosen).set(q.id, c))}
          onWords={(w) => setWords(new Map(words).set(q.id, w))}
        />
      ))}
      {children}
      <div className="flex flex-wrap gap-2">
        <Button type="submit" size="small" variant="primary" busy={busy} disabled={!open}>
          Answer
        </Button>
        <Button size="small" variant="quiet" disabled={!open || busy} onClick={() => void give(undefined)}>
          Do not answer
        </Button>
        <Deadline at={inquiry.expiresAt} />
      </div>
    </form>
  );
}

type AskedProps = {
  question: Question;
  chosen: string[];
  words: string;
  missing: boolean;
  onChoose: (c: string[]) => void;
  onWords: (w: string) => void;
};

function Asked({ question: q, chosen, words, missing, onChoose, onWords }: AskedProps) {
  const name = useId();
  const toggle = (value: string) => {
    if (!q.many) onChoose([value]);
    else onChoose(chosen.includes(value) ? chosen.filter((c) => c !== value) : [...chosen, value]);
  };
  const choice = (value: string, label: string, description: string) => (
    <label key={value} className="flex min-h-8 items-start gap-2 py-1">
      <input
        type={q.many ? "checkbox" : "radio"}
        name={name}
        checked={chosen.includes(value)}
        onChange={() => toggle(value)}
        className="mt-1 size-4 shrink-0 accent-(--c-accent)"
      />
      <span className="min-w-0 break-words">
        {label}
        {description && <span className="block text-xs text-muted">{description}</span>}
      </span>
    </label>
  );
  const write = (w: string) => {
    onWords(w);
    if (q.options.length > 0 && w !== "" && !chosen.includes(own)) onChoose(q.many ? [...chosen, own] : [own]);
  };
  return (
    <fieldset aria-describedby={missing ? `${name}-missing` : undefined} className="min-w-0">
      <legend className="mb-1 font-semibold break-words">{q.text}</legend>
      {q.options.map((o) => choice(o.label, o.label, o.description))}
      {q.other && q.options.length > 0 && choice(own, "Something else", "")}
      {q.other && (
        <input
          type={q.secret ? "password" : "text"}
          autoComplete="off"
          value={words}
          onChange={(e) => write(e.target.value)}
          aria-label={`Your own answer to: ${q.text}`}
          className="min-h-10 w-full rounded-md border border-outline bg-panel px-3 text-base sm:text-sm"
        />
      )}
      {missing && (
        <p id={`${name}-missing`} role="alert" className="mt-1 text-bad">
          {q.options.length > 0 ? "Choose an answer." : "Write an answer."}
        </p>
      )}
    </fieldset>
  );
}
