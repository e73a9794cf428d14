import { useState } from "react";
import { Button, Switch } from "@/ui";
import { allow, refuse, usePermission } from "./permission";

/** The setting of notifications in this browser. */
export function NotificationSetting() {
  const now = usePermission();
  const [asking, ask] = useState(false);
  if (now === "unsupported") return <p className="text-sm">This browser can't show notifications of this page.</p>;
  if (now === "blocked")
    return (
      <p className="text-sm">
        This browser blocks notifications of this page. To allow them, open the site's settings beside the address in
        your browser, and allow notifications. Then reload the page.
      </p>
    );
  if (now === "on" || now === "off")
    return (
      <Switch
        label="Notify me when the agent needs me"
        checked={now === "on"}
        onChange={(on) => (on ? void allow() : refuse())}
      />
    );
  const press = async () => {
    ask(true);
    await allow();
    ask(false);
  };
  return (
    <Button busy={asking} className="max-w-full shrink! py-2 whitespace-normal!" onClick={() => void press()}>
      Notify me when the agent needs me
    </Button>
  );
}
