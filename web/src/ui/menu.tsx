import { Menu as Base } from "@base-ui/react/menu";
import type { ReactElement, ReactNode } from "react";
import { CheckIcon } from "./icons";

/** Opens a list of actions from trigger, a button element. */
export function Menu({ trigger, children, align = "end", container }: { trigger: ReactElement; children: ReactNode; align?: "start" | "center" | "end"; /** Where it is drawn: needed within a full-screen element. */ container?: HTMLElement | null }) {
  return (
    <Base.Root>
      <Base.Trigger render={trigger} />
      <Base.Portal {...(container ? { container } : {})}>
        <Base.Positioner align={align} sideOffset={6} collisionPadding={8} className="z-50">
          <Base.Popup className="max-h-[min(70dvh,var(--available-height))] min-w-48 overflow-auto rounded-lg border border-line bg-raised py-1 text-sm text-ink shadow-lg outline-none">
            {children}
          </Base.Popup>
        </Base.Positioner>
      </Base.Portal>
    </Base.Root>
  );
}

const item = "flex min-h-9 w-full cursor-pointer items-center gap-2.5 px-3 py-1.5 text-left outline-none select-none data-disabled:cursor-not-allowed data-disabled:opacity-55 data-highlighted:bg-accent-soft data-highlighted:text-accent-ink forced-colors:data-highlighted:outline";

export function MenuItem({ onSelect, icon, children, disabled, danger, hint }: { onSelect: () => void; icon?: ReactNode; children: ReactNode; disabled?: boolean; danger?: boolean; hint?: ReactNode }) {
  return (
    <Base.Item className={`${item} ${danger ? "text-bad" : ""}`} onClick={onSelect} disabled={disabled ?? false}>
      {icon}
      <span className="flex-1">{children}</span>
      {hint && <span className="text-xs text-muted">{hint}</span>}
    </Base.Item>
  );
}

export function MenuLink({ render, icon, children }: { render: ReactElement; icon?: ReactNode; children: ReactNode }) {
  return <Base.Item className={item} render={render}>{icon}<span className="flex-1">{children}</span></Base.Item>;
}

/** One of several settings; the chosen one has a tick. */
export function MenuRadio<T extends string>({ value, onChange, label, options }: { value: T; onChange: (v: T) => void; label: string; options: { value: T; label: ReactNode; hint?: ReactNode; disabled?: boolean }[] }) {
  return (
    <Base.RadioGroup value={value} onValueChange={(v) => onChange(v as T)} aria-label={label}>
      <div className="px-3 pt-2 pb-1 text-xs font-semibold text-muted" aria-hidden="true">{label}</div>
      {options.map((o) => (
        <Base.RadioItem key={o.value} value={o.value} disabled={o.disabled ?? false} closeOnClick className={item}>
          <span className="inline-flex size-4"><Base.RadioItemIndicator><CheckIcon className="size-4" /></Base.RadioItemIndicator></span>
          <span className="flex flex-1 flex-col">
            <span>{o.label}</span>
            {o.hint && <span className="text-xs text-muted">{o.hint}</span>}
          </span>
        </Base.RadioItem>
      ))}
    </Base.RadioGroup>
  );
}

export function MenuCheck({ checked, onChange, children, disabled }: { checked: boolean; onChange: (on: boolean) => void; children: ReactNode; disabled?: boolean }) {
  return (
    <Base.CheckboxItem checked={checked} onCheckedChange={onChange} disabled={disabled ?? false} className={item}>
      <span className="inline-flex size-4"><Base.CheckboxItemIndicator><CheckIcon className="size-4" /></Base.CheckboxItemIndicator></span>
      <span className="flex-1">{children}</span>
    </Base.CheckboxItem>
  );
}

export const MenuSeparator = () => <Base.Separator className="my-1 border-t border-line" />;
