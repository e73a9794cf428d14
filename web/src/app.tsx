import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { useEffect } from "react";
import { queryClient } from "@/api/queries";
import { session } from "@/api/session";
import { router } from "@/router";
import { Toasts } from "@/ui";
import { keepFocus } from "@/ui/focus";

session.watch();

export function App() {
  useEffect(() => {
    const unsubscribe = session.subscribe(() => {
      queryClient.clear(); // the next account must not see this account's data
      void router.invalidate();
    });
    return () => void unsubscribe();
  }, []);
  useEffect(keepFocus, []);
  return (
    <QueryClientProvider client={queryClient}>
      <RouterProvider router={router} />
      <Toasts />
    </QueryClientProvider>
  );
}
