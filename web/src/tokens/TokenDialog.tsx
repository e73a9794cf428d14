import { useMutation } from "@tanstack/react-query";
import { useId, useState, type FormEvent } from "react";
import { CurrentPassword } from "@/account/CurrentPassword";
import { api, ApiError, call, sentence } from "@/api/client";
import { queryClient } from "@/api/queries";
import { Banner, Button, Dialog, TextField, useWrong } from "@/ui";
import { CopyButton } from "@/ui/copy";
import { lives, narrow, scopes, type Scope } from "./scopes";

const select = "min-h-10 w-full max-w-full rounded-md border border-outline bg-panel px-3 text-base sm:text-sm";

/** Asks for what a new token may do, then shows its text once. */
export function TokenDialog({
  desktops,
  email,
  onClose,
}: {
  desktops: readonly { id: string; name: string }[];
  email: string;
  onClose: () => void;
}) {
  const [text, show] = useState("");
  return (
    <Dialog
      open
      onClose={onClose}
      title={text ? "Your new token" : "Make an API token"}
      description={text ? "Copy it now: it is not shown again." : undefined}
    >
      {text ? <Made text={text} onClose={onClose} /> : <Form {...{ desktops, email, onClose }} onMade={show} />}
    </Dialog>
  );
}

function Made({ text, onClose }: { text: string; onClose: () => void }) {
  return (
    <div className="flex flex-col gap-5">
      <div className="flex flex-col items-start gap-3">
        <code className="w-full rounded-md border border-line bg-sunken p-3 text-sm break-all select-all">{text}</code>
        <CopyButton text={text} label="Copy the token" />
      </div>
      <p className="text-sm text-muted">
        A program sends it in the header <code>Authorization: Bearer …</code>
      </p>
      <div className="flex justify-end">
        <Button variant="primary" onClick={onClose}>
          Done
        </Button>
      </div>
    </div>
  );
}

function Form({
  desktops,
  email,
  onClose,
  onMade,
}: {
  desktops: readonly { id: string; name: string }[];
  email: string;
  onClose: () => void;
  onMade: (text: string) => void;
}) {
  const [name, setName] = useState("");
  const [allowed, allow] = useState<readonly Scope[]>(["read"]);
  const [some, onlySome] = useState(false);
  const [chosen, choose] = useState<readonly string[]>([]);
  const [days, setDays] = useState(90);
  const [password, setPassword] = useState("");
  const { form, wrong, say } = useWrong<"name" | "scopes" | "desktops" | "password">();
  const offered = some ? scopes.filter((s) => narrow.includes(s.id)) : scopes;
  const asked = allowed.filter((s) => offered.some((o) => o.id === s));
  const make = useMutation({
    mutationFn: () =>
      call(
        api.POST("/api/auth/tokens", {
          body: {
            name: name.trim(),
            scopes: asked,
            desktops: some ? [...chosen] : null,
            expires_in_days: days || null,
            current_password: password,
          },
        }),
      ),
    onSuccess: (made) => {
      void queryClient.invalidateQueries({ queryKey: ["tokens"] });
      onMade(made.token);
    },
    onError: (error) => {
      if (!(error instanceof ApiError)) return;
      if (error.code === "wrong_password") say({ password: error.detail });
      else if (error.code === "invalid_name") say({ name: error.detail });
      else if (error.code === "invalid_desktops") say({ desktops: error.detail });
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    const now = {
      name: name.trim() ? undefined : "Say what the token is for.",
      scopes: asked.length > 0 ? undefined : "Choose at least one.",
      desktops: !some || chosen.length > 0 ? undefined : "Choose at least one desktop.",
      password: password ? undefined : "Enter your password.",
    };
    say(now);
    if (!Object.values(now).some(Boolean)) make.mutate();
  };
  const known = wrong.name || wrong.desktops || wrong.password;
  return (
    <form ref={form} onSubmit={submit} className="flex flex-col gap-5" noValidate>
      {make.error && !known && <Banner tone="bad">{sentence(make.error)}</Banner>}
      <TextField
        label="Name"
        name="token-name"
        autoComplete="off"
        maxLength={64}
        value={name}
        onChange={setName}
        error={wrong.name}
        hint="What the token is for, such as “Nightly build”."
      />
      <Choices
        legend="What it may do"
        all={offered.map((s) => ({ id: s.id, label: s.label, about: s.allows }))}
        chosen={asked}
        onChange={(list) => allow(list as Scope[])}
        error={wrong.scopes}
      />
      <label className="flex flex-col gap-1.5 text-sm font-medium">
        For which desktops
        <select
          className={`${select} font-normal`}
          value={some ? "some" : "all"}
          onChange={(e) => onlySome(e.target.value === "some")}
        >
          <option value="all">All, also later ones</option>
          <option value="some" disabled={desktops.length === 0}>
            Only certain ones
          </option>
        </select>
      </label>
      {some && (
        <Choices
          legend="Desktops"
          all={desktops.map((d) => ({ id: d.id, label: d.name }))}
          chosen={chosen}
          onChange={choose}
          error={wrong.desktops}
        />
      )}
      <label className="flex flex-col gap-1.5 text-sm font-medium">
        It expires
        <select className={`${select} font-normal`} value={days} onChange={(e) => setDays(Number(e.target.value))}>
          {lives.map((d) => (
            <option key={d} value={d}>
              {d ? `After ${d} days` : "Never"}
            </option>
          ))}
        </select>
      </label>
      <CurrentPassword
        label="Your password"
        email={email}
        value={password}
        onChange={setPassword}
        error={wrong.password}
      />
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button variant="primary" type="submit" busy={make.isPending}>
          Make the token
        </Button>
      </div>
    </form>
  );
}

function Choices({
  legend,
  all,
  chosen,
  onChange,
  error,
}: {
  legend: string;
  all: { id: string; label: string; about?: string }[];
  chosen: readonly string[];
  onChange: (ids: string[]) => void;
  error: string | undefined;
}) {
  const id = useId();
  return (
    <fieldset className="flex flex-col gap-2">
      <legend className="mb-1.5 text-sm font-medium">{legend}</legend>
      {all.map(({ id: one, label, about }) => (
        <label key={one} className="flex items-start gap-2 text-sm">
          <input
            type="checkbox"
            className="mt-0.5 size-4 shrink-0 accent-accent"
            checked={chosen.includes(one)}
            aria-invalid={error ? true : undefined}
            aria-describedby={error ? id : undefined}
            onChange={(e) => onChange(e.target.checked ? [...chosen, one] : chosen.filter((c) => c !== one))}
          />
          <span className="min-w-0 break-words">
            {label}
            {about && <span className="block text-muted">{about}</span>}
          </span>
        </label>
      ))}
      {error && (
        <p id={id} role="alert" className="text-sm text-bad">
          {error}
        </p>
      )}
    </fieldset>
  );
}
