import type { ComponentProps, ReactNode } from "react";
import { Spinner } from "./spinner";

export type ButtonVariant = "primary" | "plain" | "quiet" | "danger";

const base =
  "inline-flex shrink-0 items-center justify-center gap-2 rounded-md font-medium whitespace-nowrap select-none transition-colors forced-colors:border " +
  "disabled:opacity-55 disabled:cursor-not-allowed aria-disabled:opacity-55 aria-disabled:cursor-not-allowed";
const sizes = { small: "min-h-8 px-2.5 text-sm", normal: "min-h-10 px-4 text-sm", large: "min-h-12 px-6 text-base" };
const variants: Record<ButtonVariant, string> = {
  primary: "bg-accent text-on-accent enabled:hover:bg-accent-hover",
  plain: "border border-outline bg-raised text-ink enabled:hover:bg-sunken",
  quiet: "text-ink enabled:hover:bg-sunken",
  danger: "bg-bad text-on-bad enabled:hover:brightness-110",
};

export function buttonClass(variant: ButtonVariant = "plain", size: keyof typeof sizes = "normal", more = "") {
  return `${base} ${sizes[size]} ${variants[variant]} ${more}`;
}

export type ButtonProps = ComponentProps<"button"> & {
  variant?: ButtonVariant;
  size?: keyof typeof sizes;
  /**
   * Work is in progress: the button shows it and ignores a second press. It keeps the focus, which a disabled one
   * loses.
   */
  busy?: boolean;
};

export function Button({
  variant,
  size,
  busy,
  className = "",
  type = "button",
  disabled,
  onClick,
  children,
  ...rest
}: ButtonProps) {
  return (
    <button
      type={type}
      className={buttonClass(variant, size, className)}
      disabled={disabled && !busy}
      aria-disabled={busy || undefined}
      aria-busy={busy || undefined}
      onClick={busy ? (e) => e.preventDefault() : onClick} // Enter in a form's field also presses its button
      {...rest}
    >
      {busy && <Spinner />}
      {children}
    </button>
  );
}

/** A button with only an icon; label is its name and its tooltip. */
export function IconButton({
  label,
  className = "",
  pressed,
  ...rest
}: Omit<ComponentProps<"button">, "aria-label"> & { label: string; pressed?: boolean; children: ReactNode }) {
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      aria-pressed={pressed}
      className={`inline-flex size-9 shrink-0 items-center justify-center rounded-md text-ink enabled:hover:bg-sunken disabled:opacity-50 aria-pressed:bg-accent-soft aria-pressed:text-accent-ink forced-colors:border forced-colors:aria-pressed:bg-[Highlight] forced-colors:aria-pressed:text-[HighlightText] ${className}`}
      {...rest}
    />
  );
}
