import { useMutation } from "@tanstack/react-query";
import { Link, useSearch } from "@tanstack/react-router";
import { useState, useSyncExternalStore, type FormEvent, type ReactNode } from "react";
import { api, ApiError, call, sentence } from "@/api/client";
import { session } from "@/api/session";
import { Banner, Button, TextField, useWrong } from "@/ui";

export function LoginPage() {
  const { ended } = useSyncExternalStore(session.subscribe, session.getSnapshot);
  return (
    <Door
      title="Log in"
      action="Log in"
      path="/api/auth/login"
      notice={ended && <Banner tone="warn">{ended}</Banner>}
      other={{ question: "New here?", to: "/signup", label: "Create an account" }}
    />
  );
}

export function SignupPage() {
  return (
    <Door
      title="Create your account"
      action="Create account"
      path="/api/auth/signup"
      fresh
      other={{ question: "Have an account?", to: "/login", label: "Log in" }}
    />
  );
}

type DoorProps = {
  title: string;
  action: string;
  path: "/api/auth/login" | "/api/auth/signup";
  /** A new password is chosen here. */
  fresh?: boolean;
  notice?: ReactNode;
  other: { question: string; to: "/login" | "/signup"; label: string };
};

function Door({ title, action, path, fresh, notice, other }: DoorProps) {
  const search = useSearch({ strict: false }) as { next?: string };
  const next = search.next ? { next: search.next } : {};
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const { form, wrong, say } = useWrong<"email" | "password">();
  const enter = useMutation({
    mutationFn: () => call(api.POST(path, { body: { email: email.trim(), password } })),
    onSuccess: (tokens) => session.start(tokens), // the router goes on by itself
    onError: (error) => say(fieldErrors(error)),
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const now = { ...emailError(email), ...(fresh ? newPasswordError(password) : password ? {} : { password: "Enter your password." }) };
    say(now);
    if (!now.email && !now.password) enter.mutate();
  };
  const general = enter.error && !wrong.email && !wrong.password ? sentence(enter.error) : undefined;
  return (
    <main className="relative h-full overflow-y-auto bg-page">
      <title>{`${title} · CloudBot`}</title>
      <div className="mx-auto flex min-h-full w-full max-w-sm flex-col justify-center px-4 py-10 box-content">
        <div className="mb-6 flex items-center gap-3">
          <img src="/app/icon.svg" alt="" width="40" height="40" />
          <div>
            <p className="text-lg font-semibold">CloudBot</p>
            <p className="text-sm text-muted">Your desktop in the cloud, with an agent at work on it</p>
          </div>
        </div>
        <form ref={form} onSubmit={submit} noValidate className="flex flex-col gap-4 rounded-xl border border-line bg-panel p-5 shadow-sm">
          <h1 className="text-xl font-semibold">{title}</h1>
          {notice}
          {general && <Banner tone="bad">{general}</Banner>}
          <TextField label="E-mail" type="email" name="email" autoComplete="username" inputMode="email" value={email} onChange={setEmail} error={wrong.email} required maxLength={254} autoCapitalize="none" spellCheck={false} />
          <TextField
            label="Password"
            type="password"
            name="password"
            autoComplete={fresh ? "new-password" : "current-password"}
            value={password}
            onChange={setPassword}
            error={wrong.password}
            required
            hint={fresh ? "At least 8 characters. A few unrelated words make a good one." : undefined}
          />
          <Button variant="primary" type="submit" busy={enter.isPending}>{action}</Button>
        </form>
        <p className="mt-4 text-center text-sm text-muted">
          {other.question} <Link to={other.to} search={next} className="font-medium text-accent-ink underline">{other.label}</Link>
        </p>
      </div>
    </main>
  );
}

function emailError(email: string): { email?: string } {
  if (!email.trim()) return { email: "Enter your e-mail address." };
  return /^[^@\s]+@[^@\s]+$/.test(email.trim()) ? {} : { email: "This is not an e-mail address: it needs a name, an @ and a domain." };
}

/** What is wrong with a new password, as the server would say it. */
export function newPasswordError(password: string): { password?: string } {
  const bytes = new TextEncoder().encode(password).length;
  if (bytes < 8) return { password: "Use at least 8 characters." };
  if (bytes > 72) return { password: "Use at most 72 bytes; letters outside of plain English count for two or more." };
  return {};
}

/** Puts a refusal beside the field it is about. */
function fieldErrors(error: unknown): { email?: string; password?: string } {
  if (!(error instanceof ApiError)) return {};
  switch (error.code) {
    case "email_taken":
    case "invalid_email":
      return { email: error.detail };
    case "password_too_short":
    case "password_too_long":
    case "password_too_common":
      return { password: error.detail };
    default:
      return {};
  }
}
