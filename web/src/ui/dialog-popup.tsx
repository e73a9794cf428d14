import { AlertDialog as BaseAlert } from "@base-ui/react/alert-dialog";
import { Dialog as Base } from "@base-ui/react/dialog";
import { useState, type FormEvent, type ReactNode, type RefObject } from "react";
import { Button } from "./button";
import { TextField } from "./field";
import { CloseIcon } from "./icons";

const backdrop = "fixed inset-0 z-40 bg-black/50";
const popup =
  "fixed inset-x-0 top-[max(1rem,8dvh)] z-50 mx-auto flex max-h-[84dvh] w-[calc(100%-2rem)] flex-col overflow-auto rounded-xl border border-line bg-panel p-5 text-ink shadow-xl";

export type DialogProps = {
  open: boolean;
  onClose: () => void;
  title: string;
  description?: ReactNode;
  wide?: boolean;
  children: ReactNode;
  initialFocus?: RefObject<HTMLElement | null>;
};

export function DialogPopup({ open, onClose, title, description, wide, children, initialFocus }: DialogProps) {
  return (
    <Base.Root open={open} onOpenChange={(now) => !now && onClose()}>
      <Base.Portal>
        <Base.Backdrop className={backdrop} />
        <Base.Popup
          className={`${popup} ${wide ? "max-w-3xl" : "max-w-lg"}`}
          {...(initialFocus ? { initialFocus } : {})}
        >
          <Base.Title className="mb-1 pr-10 text-lg font-semibold break-words">{title}</Base.Title>
          {description && (
            <Base.Description className="mb-2 text-sm text-muted" render={<div />}>
              {description}
            </Base.Description>
          )}
          <div className="mt-2">{children}</div>
          {/* Last, so that the dialog's content gets the focus. */}
          <Base.Close
            aria-label="Close"
            className="absolute top-4 right-4 inline-flex size-9 items-center justify-center rounded-md hover:bg-sunken"
          >
            <CloseIcon />
          </Base.Close>
        </Base.Popup>
      </Base.Portal>
    </Base.Root>
  );
}

/** Returns a text as it looks: a page draws white space as one space, and keyboards compose letters differently. */
const folded = (text: string) => text.normalize("NFC").replace(/\s+/gu, " ").trim();

export type ConfirmProps = {
  open: boolean;
  onClose: () => void;
  title: string;
  children: ReactNode;
  /** What the button does: "Terminate", never "OK". */
  action: string;
  /** What the other button does, where "Cancel" could mean either. */
  cancel?: string;
  /** A text that must be typed first, for what cannot be undone. */
  typed?: string;
  onConfirm: () => Promise<void> | void;
};

export function ConfirmPopup({
  open,
  onClose,
  title,
  children,
  action,
  cancel = "Cancel",
  typed,
  onConfirm,
}: ConfirmProps) {
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const close = () => {
    setText("");
    onClose();
  };
  const untyped = typed !== undefined && folded(text) !== folded(typed);
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    if (busy || untyped) return;
    setBusy(true);
    try {
      await onConfirm();
      close();
    } catch {
      // onConfirm has reported the error; the dialog stays open
    } finally {
      setBusy(false);
    }
  };
  return (
    <BaseAlert.Root open={open} onOpenChange={(now) => !now && close()}>
      <BaseAlert.Portal>
        <BaseAlert.Backdrop className={backdrop} />
        <BaseAlert.Popup className={`${popup} max-w-lg`}>
          <BaseAlert.Title className="text-lg font-semibold break-words">{title}</BaseAlert.Title>
          <BaseAlert.Description className="mt-2 text-sm break-words text-muted" render={<div />}>
            {children}
          </BaseAlert.Description>
          <form onSubmit={submit} className="mt-5 flex flex-col gap-4">
            <div className="order-2 flex flex-wrap justify-end gap-2">
              {/* First in order, so that it gets the focus. */}
              <Button onClick={close}>{cancel}</Button>
              <Button variant="danger" type="submit" busy={busy} disabled={untyped}>
                {action}
              </Button>
            </div>
            {typed !== undefined && (
              <div className="order-1">
                <TextField
                  label={
                    <>
                      Type <strong className="font-semibold break-all text-ink select-all">{typed}</strong> to confirm
                    </>
                  }
                  name="confirm-name"
                  value={text}
                  onChange={setText}
                  autoComplete="off"
                />
              </div>
            )}
          </form>
        </BaseAlert.Popup>
      </BaseAlert.Portal>
    </BaseAlert.Root>
  );
}
