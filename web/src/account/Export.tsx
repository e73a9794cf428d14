import { useMutation } from "@tanstack/react-query";
import { ApiError, sentence } from "@/api/client";
import { download } from "@/api/download";
import { Banner, Button } from "@/ui";

/** Everything that the server holds about the account, as a file. */
export function Export({ className }: { className: string }) {
  const get = useMutation({
    mutationFn: () => download("/api/auth/me/export", `cloudbot-${new Date().toISOString().slice(0, 10)}.zip`),
  });
  return (
    <section className={className} aria-labelledby="export">
      <h2 id="export" className="mb-1 text-lg font-semibold">
        Your data
      </h2>
      <p className="mb-3 text-sm text-muted">
        Everything that this server holds about you, as a zip of JSON files: account, desktops, saved chats, usage, and
        all events. Not the disks of your desktops.
      </p>
      {get.error && (
        <Banner tone="bad" className="mb-3">
          {get.error instanceof ApiError
            ? sentence(get.error)
            : "The download broke off. Check your connection, then try again."}
        </Banner>
      )}
      <Button busy={get.isPending} onClick={() => get.mutate()}>
        Download your data
      </Button>
    </section>
  );
}
