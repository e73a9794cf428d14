import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, useSearch } from "@tanstack/react-router";
import { useState, useSyncExternalStore, type FormEvent, type ReactNode } from "react";
import { api, ApiError, call, sentence } from "@/api/client";
import { aboutQuery } from "@/api/queries";
import { session } from "@/api/session";
import { Title } from "@/attention/Title";
import { inviteIn } from "./invite";
import { logIn } from "./logIn";
import { Banner, Button, TextField, useWrong } from "@/ui";

export function LoginPage() {
  const { ended } = useSyncExternalStore(session.subscribe, session.getSnapshot);
  const mode = useQuery(aboutQuery).data?.signup;
  return (
    <Door
      title="Log in"
      action="Log in"
      path="/api/auth/login"
      notice={ended && <Banner tone="warn">{ended}</Banner>}
      other={
        mode === "closed"
          ? undefined
          : {
              question: mode === "invite" ? "Have an invitation?" : "New here?",
              to: "/signup",
              label: "Create an account",
            }
      }
    />
  );
}

export function SignupPage() {
  const mode = useQuery(aboutQuery).data?.signup;
  const other = { question: "Have an account?", to: "/login", label: "Log in" } as const;
  if (mode === "closed") {
    return (
      <Frame title="Create your account" other={other}>
        <div className={panel}>
          <h1 className="text-xl font-semibold">Create your account</h1>
          <p>Sign-up is closed on this server. Ask its operator for an account.</p>
        </div>
      </Frame>
    );
  }
  return (
    <Door
      title="Create your account"
      action="Create account"
      path="/api/auth/signup"
      fresh
      invited={mode === "invite"}
      other={other}
    />
  );
}

type DoorProps = {
  title: string;
  action: string;
  path: "/api/auth/login" | "/api/auth/signup";
  /** The user chooses a new password in this form. */
  fresh?: boolean;
  /** The form asks for an invitation code. */
  invited?: boolean;
  notice?: ReactNode;
  other: Other | undefined;
};

/** A link to the other form. */
type Other = { question: string; to: "/login" | "/signup"; label: string };

const panel = "flex flex-col gap-4 rounded-xl border border-line bg-panel p-5 shadow-sm";

function Door({ title, action, path, fresh, invited, notice, other }: DoorProps) {
  const [invite, setInvite] = useState(() => (fresh ? inviteIn(location.hash) : ""));
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const { form, wrong, say } = useWrong<"email" | "password" | "invite">();
  const enter = useMutation({
    mutationFn: () => {
      const body = { email: email.trim(), password };
      return path === "/api/auth/login"
        ? logIn(body)
        : call(api.POST(path, { body: invite.trim() ? { ...body, invite: invite.trim() } : body }));
    },
    onSuccess: (tokens) => session.start(tokens), // The router then leaves this page.
    onError: (error) => say(fieldErrors(error)),
  });
  const asked = invited || invite !== "" || wrong.invite !== undefined;
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const now = {
      ...(asked && !invite.trim() ? { invite: "Enter your invitation code." } : {}),
      ...emailError(email),
      ...(fresh ? newPasswordError(password) : password ? {} : { password: "Enter your password." }),
    };
    say(now);
    if (!now.email && !now.password && !now.invite) enter.mutate();
  };
  const general = enter.error && !wrong.email && !wrong.password && !wrong.invite ? sentence(enter.error) : undefined;
  return (
    <Frame title={title} other={other}>
      <form ref={form} onSubmit={submit} noValidate className={panel}>
        <h1 className="text-xl font-semibold">{title}</h1>
        {notice}
        {general && <Banner tone="bad">{general}</Banner>}
        {asked && (
          <TextField
            label="Invitation code"
            name="invite"
            autoComplete="off"
            value={invite}
            onChange={setInvite}
            error={wrong.invite}
            required
            maxLength={100}
            autoCapitalize="characters"
            spellCheck={false}
            hint="Sign-up is by invitation only. Your code is in the invitation message."
          />
        )}
        <TextField
          label="E-mail"
          type="email"
          name="email"
          autoComplete="username"
          inputMode="email"
          value={email}
          onChange={setEmail}
          error={wrong.email}
          required
          maxLength={254}
          autoCapitalize="none"
          spellCheck={false}
        />
        <TextField
          label="Password"
          type="password"
          name="password"
          autoComplete={fresh ? "new-password" : "current-password"}
          value={password}
          onChange={setPassword}
          error={wrong.password}
          required
          hint={fresh ? "At least 8 characters. A few unrelated words make a good password." : undefined}
        />
        <Button variant="primary" type="submit" busy={enter.isPending}>
          {action}
        </Button>
      </form>
    </Frame>
  );
}

/** The page around a log-in or sign-up form. */
function Frame({ title, other, children }: { title: string; other: Other | undefined; children: ReactNode }) {
  const search = useSearch({ strict: false }) as { next?: string };
  const next = search.next ? { next: search.next } : {};
  return (
    <main className="relative h-full overflow-y-auto bg-page">
      <Title>{title}</Title>
      <div className="mx-auto flex min-h-full w-full max-w-104 flex-col justify-center px-4 py-10">
        <div className="mb-6 flex items-center gap-3">
          <img src="/app/icon.svg" alt="" width="40" height="40" />
          <div>
            <p className="text-lg font-semibold">CloudBot</p>
            <p className="text-sm text-muted">Your desktop in the cloud, with an agent working on it</p>
          </div>
        </div>
        {children}
        {other && (
          <p className="mt-4 text-center text-sm text-muted">
            {other.question}{" "}
            <Link to={other.to} search={next} className="font-medium text-accent-ink underline">
              {other.label}
            </Link>
          </p>
        )}
      </div>
    </main>
  );
}

function emailError(email: string): { email?: string } {
  if (!email.trim()) return { email: "Enter your e-mail address." };
  return /^[^@\s]+@[^@\s]+$/.test(email.trim())
    ? {}
    : { email: "This is not an e-mail address: it needs a name, an @ and a domain." };
}

/** newPasswordError returns what is wrong with a new password, in the server's words. */
export function newPasswordError(password: string): { password?: string } {
  const characters = Array.from(password).length;
  if (characters < 8) return { password: "Use at least 8 characters." };
  if (characters > 256) return { password: "Use at most 256 characters." };
  return {};
}

/** Shows a refusal beside the field it is about. */
function fieldErrors(error: unknown): { email?: string; password?: string; invite?: string } {
  if (!(error instanceof ApiError)) return {};
  switch (error.code) {
    case "email_taken":
    case "invalid_email":
      return { email: error.detail };
    case "signup_closed":
      return error.field === "invite" ? { invite: error.detail } : {};
    case "password_too_short":
    case "password_too_long":
    case "password_too_common":
    case "password_contains_email":
      return { password: error.detail };
    default:
      return {};
  }
}
