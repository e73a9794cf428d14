import { Switch as BaseSwitch } from "@base-ui/react/switch";
import { useId, useState, type ComponentProps, type ReactNode } from "react";
import { EyeIcon } from "./icons";

type TextFieldProps = Omit<ComponentProps<"input">, "onChange" | "value"> & {
  label: ReactNode;
  value: string;
  onChange: (value: string) => void;
  hint?: ReactNode;
  /** What is wrong, as a sentence. */
  error?: string | undefined;
};

/** A labelled input with a hint and an error that assistive technology reads with it. */
export function TextField({ label, value, onChange, hint, error, type = "text", id, className = "", ...rest }: TextFieldProps) {
  const own = useId();
  const [shown, setShown] = useState(false);
  const input = id ?? own;
  const password = type === "password";
  const about = [hint ? `${input}-hint` : "", error ? `${input}-error` : ""].join(" ").trim();
  return (
    <div className={`flex flex-col gap-1.5 ${className}`}>
      <label htmlFor={input} className="text-sm font-medium">{label}</label>
      <div className="relative">
        <input
          id={input}
          type={password && shown ? "text" : type}
          value={value}
          onChange={(e) => onChange(e.target.value)}
          aria-invalid={error ? true : undefined}
          aria-describedby={about || undefined}
          className={`min-h-10 w-full rounded-md border border-outline bg-panel px-3 text-base aria-invalid:border-bad sm:text-sm ${password ? "pr-11" : ""}`}
          {...rest}
        />
        {password && (
          <button type="button" onClick={() => setShown(!shown)} aria-pressed={shown} aria-label="Show what is typed" title="Show what is typed"
            className="absolute inset-y-0 right-0 inline-flex w-10 items-center justify-center text-muted hover:text-ink aria-pressed:text-accent-ink">
            <EyeIcon />
          </button>
        )}
      </div>
      {hint && <p id={`${input}-hint`} className="text-sm text-muted">{hint}</p>}
      {error && <p id={`${input}-error`} role="alert" className="text-sm text-bad">{error}</p>}
    </div>
  );
}

/** A setting that is on or off, at once. */
export function Switch({ label, checked, onChange, disabled }: { label: ReactNode; checked: boolean; onChange: (on: boolean) => void; disabled?: boolean }) {
  return (
    <label className="inline-flex items-center gap-2 text-sm">
      <BaseSwitch.Root checked={checked} onCheckedChange={onChange} disabled={disabled ?? false}
        className="inline-flex h-6 w-10 items-center rounded-full border border-outline bg-sunken p-0.5 data-checked:border-accent data-checked:bg-accent">
        <BaseSwitch.Thumb className="size-4.5 rounded-full bg-outline transition-transform data-checked:translate-x-4 data-checked:bg-on-accent" />
      </BaseSwitch.Root>
      {label}
    </label>
  );
}
