import { Menu as Base } from "@base-ui/react/menu";
import { Parts, type MenuProps } from "./menu-parts";

/** The menu itself. It starts open, because the user has already pressed its button. */
export function MenuPopup({ trigger, children, align = "end", container }: MenuProps) {
  return (
    <Base.Root defaultOpen>
      <Base.Trigger render={trigger} />
      <Base.Portal {...(container ? { container } : {})}>
        <Base.Positioner align={align} sideOffset={6} collisionPadding={8} className="z-50">
          <Base.Popup className="max-h-[min(70dvh,var(--available-height))] min-w-48 overflow-auto rounded-lg border border-line bg-raised py-1 text-sm text-ink shadow-lg outline-none">
            <Parts value={Base}>{children}</Parts>
          </Base.Popup>
        </Base.Positioner>
      </Base.Portal>
    </Base.Root>
  );
}
