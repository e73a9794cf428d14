// The pages and their addresses. What only a desktop or a form needs is loaded with its page.
import { createRootRoute, createRoute, createRouter, redirect } from "@tanstack/react-router";
import { session } from "@/api/session";
import { LoginPage, SignupPage } from "@/account/LoginPage";
import { InstancesPage } from "@/instances/InstancesPage";
import { BareFrame, Broken, latePage, NotFound, PageFrame, Pending, Root, Shell } from "@/shell";

const root = createRootRoute({ component: Root, errorComponent: Broken, notFoundComponent: NotFound });

// What a check leaves out stays as it came: a parameter that is no good is named, as undefined.

type Next = { next?: string | undefined };

/** Only a page of ours is a place to go on to. */
function validNext({ next }: Record<string, unknown>): Next {
  return { next: typeof next === "string" && /^\/(?![/\\])/.test(next) ? next : undefined };
}

/** Who is signed in goes on: at once after a log-in, in whichever tab it was. */
function goOn({ search }: { search: Next }) {
  if (session.getSnapshot().login) throw redirect({ href: search.next ?? "/", replace: true });
}

const login = createRoute({
  getParentRoute: () => root,
  path: "/login",
  validateSearch: validNext,
  beforeLoad: goOn,
  component: LoginPage,
});
const signup = createRoute({
  getParentRoute: () => root,
  path: "/signup",
  validateSearch: validNext,
  beforeLoad: goOn,
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

export type InstancesSearch = { create?: true | undefined; terminated?: true | undefined };

const instances = createRoute({
  getParentRoute: () => framed,
  path: "/",
  validateSearch: (s: Record<string, unknown>): InstancesSearch => ({
    create: s.create ? true : undefined,
    terminated: s.terminated ? true : undefined,
  }),
  component: InstancesPage,
});

export const views = ["both", "desktop", "chat"] as const;
export type View = (typeof views)[number];

export type WorkspaceSearch = {
  view?: View | undefined;
  /** Key of the open chat; absent: the main one. */ chat?: string | undefined;
};

const workspace = createRoute({
  getParentRoute: () => signedIn,
  path: "/desktops/$id",
  validateSearch: (s: Record<string, unknown>): WorkspaceSearch => ({
    view: views.find((v) => v === s.view),
    chat: typeof s.chat === "string" && s.chat !== "" && s.chat.length <= 512 ? s.chat : undefined,
  }),
  component: latePage(async () => (await import("@/workspace/WorkspacePage")).WorkspacePage, BareFrame),
  pendingComponent: () => (
    <BareFrame>
      <Pending />
    </BareFrame>
  ),
});

export const aboutTabs = ["history", "diagnostics"] as const;
export type AboutTab = (typeof aboutTabs)[number];

const about = createRoute({
  getParentRoute: () => framed,
  path: "/desktops/$id/about",
  validateSearch: (s: Record<string, unknown>): { tab?: AboutTab | undefined } => ({
    tab: aboutTabs.find((t) => t === s.tab),
  }),
  component: latePage(async () => (await import("@/instances/AboutPage")).AboutPage),
});

const keys = createRoute({
  getParentRoute: () => framed,
  path: "/keys",
  component: latePage(async () => (await import("@/keys/KeysPage")).KeysPage),
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
    signedIn.addChildren([workspace, framed.addChildren([instances, about, keys, account])]),
  ]),
  basepath: "/app",
  defaultPreload: "intent",
  scrollRestoration: true,
  defaultErrorComponent: Broken,
  defaultPendingComponent: Pending,
  defaultPendingMs: 150, // a press is answered at once, on a slow line, too
  defaultPendingMinMs: 200,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
