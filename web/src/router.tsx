// The pages and their addresses. Code that only a desktop or a form needs is loaded with its page.
import { createRootRoute, createRoute, createRouter, redirect } from "@tanstack/react-router";
import { session } from "@/api/session";
import { LoginPage, SignupPage } from "@/account/LoginPage";
import { InstancesPage } from "@/instances/InstancesPage";
import {
  aboutSearch,
  instancesSearch,
  nextSearch,
  planSearch,
  usageSearch,
  workspaceSearch,
  type NextSearch,
} from "@/search";
import { BareFrame, Broken, latePage, NotFound, PageFrame, Pending, Root, Shell } from "@/shell";

const root = createRootRoute({ component: Root, errorComponent: Broken, notFoundComponent: NotFound });

/** A logged-in user continues to the next page, also after a log-in in another tab. */
function skipLogin({ search }: { search: NextSearch }) {
  if (session.getSnapshot().login) throw redirect({ href: search.next ?? "/", replace: true });
}

const login = createRoute({
  getParentRoute: () => root,
  path: "/login",
  validateSearch: nextSearch,
  beforeLoad: skipLogin,
  component: LoginPage,
});
const signup = createRoute({
  getParentRoute: () => root,
  path: "/signup",
  validateSearch: nextSearch,
  beforeLoad: skipLogin,
  component: SignupPage,
});

const signedIn = createRoute({
  getParentRoute: () => root,
  id: "signed-in",
  component: Shell,
  beforeLoad: ({ location }) => {
    const { login: who, left } = session.getSnapshot();
    if (!who) throw redirect({ to: "/login", search: left || location.href === "/" ? {} : { next: location.href } });
  },
});

const framed = createRoute({ getParentRoute: () => signedIn, id: "framed", component: PageFrame });

const instances = createRoute({
  getParentRoute: () => framed,
  path: "/",
  validateSearch: instancesSearch,
  component: InstancesPage,
});

const workspace = createRoute({
  getParentRoute: () => signedIn,
  path: "/desktops/$id",
  validateSearch: workspaceSearch,
  component: latePage(async () => (await import("@/workspace/WorkspacePage")).WorkspacePage, BareFrame),
  pendingComponent: () => (
    <BareFrame>
      <Pending />
    </BareFrame>
  ),
});

const about = createRoute({
  getParentRoute: () => framed,
  path: "/desktops/$id/about",
  validateSearch: aboutSearch,
  component: latePage(async () => (await import("@/instances/AboutPage")).AboutPage),
});

const keys = createRoute({
  getParentRoute: () => framed,
  path: "/keys",
  component: latePage(async () => (await import("@/keys/KeysPage")).KeysPage),
});

const usage = createRoute({
  getParentRoute: () => framed,
  path: "/usage",
  validateSearch: usageSearch,
  component: latePage(async () => (await import("@/usage/UsagePage")).UsagePage),
});

const plan = createRoute({
  getParentRoute: () => framed,
  path: "/plan",
  validateSearch: planSearch,
  component: latePage(async () => (await import("@/plan/PlanPage")).PlanPage),
});

const account = createRoute({
  getParentRoute: () => framed,
  path: "/account",
  component: latePage(async () => (await import("@/account/AccountPage")).AccountPage),
});

export const router = createRouter({
  routeTree: root.addChildren([
    login,
    signup,
    signedIn.addChildren([workspace, framed.addChildren([instances, about, keys, usage, plan, account])]),
  ]),
  basepath: "/app",
  defaultPreload: "intent",
  scrollRestoration: true,
  defaultErrorComponent: Broken,
  defaultPendingComponent: Pending,
  defaultPendingMs: 150, // a press is answered immediately, also on a slow connection
  defaultPendingMinMs: 200,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
