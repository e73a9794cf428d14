import { useEffect, useId, useRef, useState, type ComponentProps, type ReactNode } from "react";
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
export function TextField({
  label,
  value,
  onChange,
  hint,
  error,
  type = "text",
  id,
  className = "",
  ...rest
}: TextFieldProps) {
  const own = useId();
  const [shown, setShown] = useState(false);
  const input = id ?? own;
  const password = type === "password";
  const about = [hint ? `${input}-hint` : "", error ? `${input}-error` : ""].join(" ").trim();
  return (
    <div className={`flex flex-col gap-1.5 ${className}`}>
      <label htmlFor={input} className="text-sm font-medium">
        {label}
      </label>
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
          <button
            type="button"
            onClick={() => setShown(!shown)}
            aria-pressed={shown}
            aria-label="Show what is typed"
            title="Show what is typed"
            className="absolute inset-y-0 right-0 inline-flex w-10 items-center justify-center text-muted hover:text-ink aria-pressed:text-accent-ink forced-colors:aria-pressed:text-[Highlight]"
          >
            <EyeIcon />
          </button>
        )}
      </div>
      {hint && (
        <p id={`${input}-hint`} className="text-sm text-muted">
          {hint}
        </p>
      )}
      {error && (
        <p id={`${input}-error`} role="alert" className="text-sm text-bad">
          {error}
        </p>
      )}
    </div>
  );
}

/** What is wrong with a form's fields, as sentences. Setting it moves the focus to the first of them. */
export function useWrong<Field extends string>() {
  const form = useRef<HTMLFormElement>(null);
  const [wrong, say] = useState<{ [f in Field]?: string | undefined }>({});
  useEffect(() => {
    if (Object.values(wrong).some(Boolean)) form.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus();
  }, [wrong]);
  return { form, wrong, say };
}

/** A setting that takes effect immediately. */
export function Switch({
  label,
  checked,
  onChange,
  disabled,
}: {
  label: ReactNode;
  checked: boolean;
  onChange: (on: boolean) => void;
  disabled?: boolean;
}) {
  return (
    <label className="inline-flex items-center gap-2 text-sm">
      <input
        type="checkbox"
        role="switch"
        aria-checked={checked}
        checked={checked}
        disabled={disabled}
        onChange={(e) => onChange(e.target.checked)}
        className="relative h-6 w-10 shrink-0 cursor-pointer appearance-none rounded-full border border-outline bg-sunken transition-colors before:absolute before:top-0.5 before:left-0.5 before:size-4.5 before:rounded-full before:bg-outline before:transition-transform checked:border-accent checked:bg-accent checked:before:translate-x-4 checked:before:bg-on-accent forced-colors:appearance-auto"
      />
      {label}
    </label>
  );
}
