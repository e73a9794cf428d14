import { Link } from "@tanstack/react-router";
import { useState, type ReactNode } from "react";
import type { Instance } from "@/api/client";
import { IconButton, Menu, MenuItem, MenuLink, MenuSeparator } from "@/ui";
import { ClockIcon, EditIcon, HistoryIcon, MoreIcon, PulseIcon, StopIcon, TrashIcon } from "@/ui/icons";
import { whenOpen } from "@/ui/later";
import { possible } from "./commands";
import { useStopping } from "./useStopping";

const RenameDialog = whenOpen(async () => (await import("./InstanceDialogs")).RenameDialog);
const TerminateDialog = whenOpen(async () => (await import("./InstanceDialogs")).TerminateDialog);
const PolicyDialog = whenOpen(async () => (await import("@/idle/PolicyDialog")).PolicyDialog);

/** The actions for an instance, then other items. Stop is included if there is no button for it beside the menu. */
export function InstanceMenu({
  instance: i,
  withStop,
  children,
}: {
  instance: Instance;
  withStop?: boolean;
  children?: ReactNode;
}) {
  const [asking, ask] = useState<"rename" | "policy" | "terminate">();
  const { stop, dialog } = useStopping(i);
  const can = possible(i);
  const asked = { instance: i, onClose: () => ask(undefined) };
  return (
    <>
      <Menu
        trigger={
          <IconButton label={`More actions for ${i.name}`}>
            <MoreIcon />
          </IconButton>
        }
      >
        {withStop && can.stop && (
          <MenuItem icon={<StopIcon />} onSelect={stop}>
            Stop
          </MenuItem>
        )}
        {can.rename && (
          <>
            <MenuItem icon={<EditIcon />} onSelect={() => ask("rename")}>
              Rename…
            </MenuItem>
            {i.idle && (
              <MenuItem icon={<ClockIcon />} onSelect={() => ask("policy")}>
                When idle…
              </MenuItem>
            )}
          </>
        )}
        <MenuLink icon={<HistoryIcon />} render={<Link to="/desktops/$id/about" params={{ id: i.id }} />}>
          History
        </MenuLink>
        <MenuLink
          icon={<PulseIcon />}
          render={<Link to="/desktops/$id/about" params={{ id: i.id }} search={{ tab: "diagnostics" }} />}
        >
          Diagnostics
        </MenuLink>
        {can.terminate && (
          <>
            <MenuSeparator />
            <MenuItem danger icon={<TrashIcon />} onSelect={() => ask("terminate")}>
              Terminate…
            </MenuItem>
          </>
        )}
        {children}
      </Menu>
      {dialog}
      {asking === "rename" && <RenameDialog open {...asked} />}
      {asking === "policy" && <PolicyDialog open {...asked} />}
      <TerminateDialog open={asking === "terminate"} {...asked} />
    </>
  );
}
