import { Toast as Base } from "@base-ui/react/toast";
import { CloseIcon } from "./icons";

export const manager = Base.createToastManager();

const edge: Record<string, string> = { good: "border-l-good", warn: "border-l-warn", bad: "border-l-bad", info: "border-l-accent" };

export function Toasts() {
  return (
    <Base.Provider toastManager={manager} limit={4}>
      <Base.Portal>
        <Base.Viewport className="fixed right-4 bottom-4 left-4 z-[60] ml-auto flex max-w-sm flex-col gap-2">
          <List />
        </Base.Viewport>
      </Base.Portal>
    </Base.Provider>
  );
}

function List() {
  const { toasts } = Base.useToastManager();
  return toasts.map((t) => (
    <Base.Root key={t.id} toast={t} className={`flex items-start gap-3 rounded-lg border border-l-4 border-line bg-raised p-3 text-sm text-ink shadow-lg data-limited:hidden ${edge[t.type ?? "info"] ?? edge.info}`}>
      <div className="min-w-0 flex-1 break-words">
        <Base.Title className="font-semibold" />
        <Base.Description className="text-muted" />
      </div>
      <Base.Close aria-label="Close" className="inline-flex size-7 shrink-0 items-center justify-center rounded hover:bg-sunken"><CloseIcon className="size-4" /></Base.Close>
    </Base.Root>
  ));
}
