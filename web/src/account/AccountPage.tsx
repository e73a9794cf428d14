import { useMutation, useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { api, ApiError, call, sentence, type Session } from "@/api/client";
import { accountHistoryQuery, meQuery, queryClient, sessionsQuery } from "@/api/queries";
import { NotificationSetting } from "@/attention/NotificationSetting";
import { History } from "@/history/History";
import { AccountPolicy } from "@/idle/AccountPolicy";
import { logOut, PageTitle } from "@/shell";
import { Tokens } from "@/tokens/Tokens";
import { Badge, Banner, Button, Spinner, TextField, toast, useWrong } from "@/ui";
import { Ago } from "@/ui/time";
import { CurrentPassword } from "./CurrentPassword";
import { Export } from "./Export";
import { newPasswordError } from "./LoginPage";

const card = "rounded-xl border border-line bg-panel p-5";

export function AccountPage() {
  const me = useQuery(meQuery);
  return (
    <>
      <PageTitle action={<Button onClick={() => void logOut()}>Log out</Button>}>Account</PageTitle>
      <div className="flex flex-col gap-6">
        <section className={card} aria-labelledby="who">
          <h2 id="who" className="mb-2 text-lg font-semibold">
            You
          </h2>
          <p className="min-h-6 break-all">{me.data?.email}</p>
          <p className="min-h-5 text-sm text-muted">
            {me.data && (
              <>
                Account created <Ago at={me.data.created_at} />
              </>
            )}
          </p>
        </section>
        <section className={card} aria-labelledby="notifications">
          <h2 id="notifications" className="mb-3 text-lg font-semibold">
            Notifications in this browser
          </h2>
          <NotificationSetting />
          <p className="mt-2 text-sm text-muted">They also tell you before a desktop stops by itself.</p>
        </section>
        <section className={card} aria-labelledby="idle">
          <h2 id="idle" className="mb-2 text-lg font-semibold">
            When desktops stop by themselves
          </h2>
          <AccountPolicy />
          <p className="mt-3 text-sm text-muted">A desktop can have its own times: choose “When idle…” in its menu.</p>
        </section>
        <Sessions />
        <Password email={me.data?.email ?? ""} />
        <Tokens className={card} email={me.data?.email ?? ""} />
        <section className={card} aria-labelledby="activity">
          <h2 id="activity" className="mb-1 text-lg font-semibold">
            Activity
          </h2>
          <p className="text-sm text-muted">If a failed log-in was not you, change your password.</p>
          <History of={accountHistoryQuery} />
        </section>
        <Export className={card} />
      </div>
    </>
  );
}

function Sessions() {
  const list = useQuery(sessionsQuery);
  const revoke = useMutation({
    mutationFn: async (sessions: Session[]) => {
      for (const s of sessions) await call(api.DELETE("/api/auth/sessions/{id}", { params: { path: { id: s.id } } }));
    },
    onSettled: () => void queryClient.invalidateQueries({ queryKey: ["sessions"] }),
    onError: (error) => toast({ tone: "bad", title: "The session could not be ended", detail: sentence(error) }),
  });
  const others = list.data?.sessions.filter((s) => !s.current) ?? [];
  return (
    <section className={card} aria-labelledby="sessions">
      <div className="mb-3 flex flex-wrap items-center justify-between gap-2">
        <h2 id="sessions" className="text-lg font-semibold">
          Where you are logged in
        </h2>
        {others.length > 1 && (
          <Button size="small" busy={revoke.isPending} onClick={() => revoke.mutate(others)}>
            End all other sessions
          </Button>
        )}
      </div>
      {list.isPending && <Spinner label="Loading…" />}
      {list.error && <Banner tone="bad">{sentence(list.error)}</Banner>}
      <ul className="divide-y divide-line">
        {list.data?.sessions.map((s) => (
          <li key={s.id} className="flex flex-wrap items-center gap-x-4 gap-y-1 py-3">
            <div className="min-w-0 flex-1 basis-56">
              <p className="font-medium break-words" title={s.agent}>
                {browserOf(s.agent)} {s.current && <Badge tone="good">This session</Badge>}
              </p>
              <p className="text-sm break-words text-muted">
                From {s.client_addr || "an unknown address"}, started <Ago at={s.started_at} />, last seen{" "}
                <Ago at={s.seen_at} />
              </p>
            </div>
            {!s.current && (
              <Button
                size="small"
                busy={revoke.isPending && revoke.variables.includes(s)}
                onClick={() => revoke.mutate([s])}
              >
                End session
                <span className="sr-only">
                  {" "}
                  of {browserOf(s.agent)} from {s.client_addr}
                </span>
              </Button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

/** browserOf names the browser and the system of a User-Agent. */
export function browserOf(agent: string): string {
  const find = (list: [RegExp, string][]) => list.find(([r]) => r.test(agent))?.[1];
  const browser = find([
    [/Edg\//, "Edge"],
    [/OPR\//, "Opera"],
    [/Firefox\//, "Firefox"],
    [/Chrome\//, "Chrome"],
    [/Safari\//, "Safari"],
    [/^curl\//, "curl"],
  ]);
  const system = find([
    [/Android/, "Android"],
    [/iPhone|iPad/, "iOS"],
    [/Windows/, "Windows"],
    [/Mac OS X/, "macOS"],
    [/CrOS/, "ChromeOS"],
    [/Linux/, "Linux"],
  ]);
  if (browser && system) return `${browser} on ${system}`;
  return browser ?? (agent.slice(0, 60) || "Unknown browser");
}

function Password({ email }: { email: string }) {
  const [current, setCurrent] = useState("");
  const [fresh, setFresh] = useState("");
  const { form, wrong, say } = useWrong<"current" | "fresh">();
  const change = useMutation({
    mutationFn: () =>
      call(api.POST("/api/auth/password", { body: { current_password: current, new_password: fresh } })),
    onSuccess: () => {
      setCurrent("");
      setFresh("");
      toast({ tone: "good", title: "Password changed", detail: "Your other sessions have ended." });
      void queryClient.invalidateQueries({ queryKey: ["sessions"] });
    },
    onError: (error) => {
      if (!(error instanceof ApiError)) return;
      if (error.code === "wrong_password") say({ current: error.detail });
      else if (error.code.startsWith("password_")) say({ fresh: error.detail });
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const no = newPasswordError(fresh).password;
    const now = { ...(current ? {} : { current: "Enter your current password." }), ...(no ? { fresh: no } : {}) };
    say(now);
    if (!now.current && !now.fresh) change.mutate();
  };
  return (
    <section className={card} aria-labelledby="password">
      <h2 id="password" className="mb-3 text-lg font-semibold">
        Change password
      </h2>
      <form ref={form} onSubmit={submit} noValidate className="flex max-w-sm flex-col gap-4">
        {change.error && !wrong.current && !wrong.fresh && <Banner tone="bad">{sentence(change.error)}</Banner>}
        <CurrentPassword
          label="Current password"
          email={email}
          value={current}
          onChange={setCurrent}
          error={wrong.current}
        />
        <TextField
          label="New password"
          type="password"
          name="new-password"
          autoComplete="new-password"
          value={fresh}
          onChange={setFresh}
          error={wrong.fresh}
          hint="At least 8 characters. Your other sessions will end."
        />
        <div>
          <Button type="submit" variant="primary" busy={change.isPending}>
            Change password
          </Button>
        </div>
      </form>
    </section>
  );
}
