// Base UI's menu is loaded when a menu is first used: see later.tsx. Its items receive it by context.
import { cloneElement, useContext, useState, type ReactElement, type ReactNode } from "react";
import { CheckIcon } from "./icons";
import { NotLoaded, part, usePart } from "./later";
import { Parts, type MenuProps } from "./menu-parts";

const popup = part(async () => (await import("./menu-popup")).MenuPopup);

/** A list of actions behind a button. */
export function Menu(props: MenuProps) {
  const [wanted, want] = useState(false);
  const { value: Loaded, failed, again } = usePart(popup, wanted);
  if (wanted && Loaded) return <Loaded {...props} />;
  const press = () => {
    want(true);
    again();
  };
  const close = () => {
    want(false);
    again();
  };
  return (
    <>
      {cloneElement(props.trigger, { "aria-haspopup": "menu", "aria-expanded": false, onClick: press })}
      {wanted && failed && <NotLoaded again={again} onClose={close} />}
    </>
  );
}

function useParts() {
  const parts = useContext(Parts);
  if (!parts) throw new Error("a menu item outside a menu");
  return parts;
}

const item =
  "flex min-h-9 w-full cursor-pointer items-center gap-2.5 px-3 py-1.5 text-left outline-none select-none data-disabled:cursor-not-allowed data-disabled:opacity-55 data-highlighted:bg-accent-soft data-highlighted:text-accent-ink forced-colors:data-highlighted:outline";

export function MenuItem({
  onSelect,
  icon,
  children,
  disabled,
  danger,
  hint,
}: {
  onSelect: () => void;
  icon?: ReactNode;
  children: ReactNode;
  disabled?: boolean;
  danger?: boolean;
  hint?: ReactNode;
}) {
  const Base = useParts();
  return (
    <Base.Item className={`${item} ${danger ? "text-bad" : ""}`} onClick={onSelect} disabled={disabled ?? false}>
      {icon}
      <span className="flex-1">{children}</span>
      {hint && <span className="text-xs text-muted">{hint}</span>}
    </Base.Item>
  );
}

export function MenuLink({ render, icon, children }: { render: ReactElement; icon?: ReactNode; children: ReactNode }) {
  const Base = useParts();
  return (
    <Base.Item className={item} render={render}>
      {icon}
      <span className="flex-1">{children}</span>
    </Base.Item>
  );
}

/** One of several settings; the chosen one has a tick. */
export function MenuRadio<T extends string>({
  value,
  onChange,
  label,
  options,
}: {
  value: T;
  onChange: (v: T) => void;
  label: string;
  options: { value: T; label: ReactNode; hint?: ReactNode; disabled?: boolean }[];
}) {
  const Base = useParts();
  return (
    <Base.RadioGroup value={value} onValueChange={(v) => onChange(v as T)} aria-label={label}>
      <div className="px-3 pt-2 pb-1 text-xs font-semibold text-muted" aria-hidden="true">
        {label}
      </div>
      {options.map((o) => (
        <Base.RadioItem key={o.value} value={o.value} disabled={o.disabled ?? false} closeOnClick className={item}>
          <span className="inline-flex size-4">
            <Base.RadioItemIndicator>
              <CheckIcon className="size-4" />
            </Base.RadioItemIndicator>
          </span>
          <span className="flex flex-1 flex-col">
            <span>{o.label}</span>
            {o.hint && <span className="max-w-60 text-xs text-muted">{o.hint}</span>}
          </span>
        </Base.RadioItem>
      ))}
    </Base.RadioGroup>
  );
}

export function MenuCheck({
  checked,
  onChange,
  children,
  disabled,
}: {
  checked: boolean;
  onChange: (on: boolean) => void;
  children: ReactNode;
  disabled?: boolean;
}) {
  const Base = useParts();
  return (
    <Base.CheckboxItem checked={checked} onCheckedChange={onChange} disabled={disabled ?? false} className={item}>
      <span className="inline-flex size-4">
        <Base.CheckboxItemIndicator>
          <CheckIcon className="size-4" />
        </Base.CheckboxItemIndicator>
      </span>
      <span className="flex-1">{children}</span>
    </Base.CheckboxItem>
  );
}

export function MenuSeparator() {
  const Base = useParts();
  return <Base.Separator className="my-1 border-t border-line" />;
}
