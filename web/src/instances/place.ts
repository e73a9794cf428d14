import type { Instance } from "@/api/client";

/** A desktop on the server's own computer has neither size nor region. */
export const isLocal = (i: Pick<Instance, "region">) => i.region === "local";

/** Returns size and region for a line of text; nothing for a local desktop. */
export const place = (i: Pick<Instance, "region" | "instance_type">) =>
  isLocal(i) ? "" : `${i.instance_type} · ${i.region}`;
