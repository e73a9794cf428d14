// What surrounds the pages: the bar at the top, and what replaces a page that is missing.
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useMatch, useRouter } from "@tanstack/react-router";
import {
  createContext,
  useContext,
  useEffect,
  useState,
  useSyncExternalStore,
  type ComponentType,
  type ReactNode,
} from "react";
import { createPortal } from "react-dom";
import { api, call, sentence } from "@/api/client";
import { useLive, useLiveState } from "@/api/live";
import { meQuery, queryClient } from "@/api/queries";
import { session } from "@/api/session";
import { AttentionMark, Notifications } from "@/attention/Mark";
import { Title } from "@/attention/Title";
import { clearOutboxes } from "@/chat/outbox";
import { LatePlanBanner } from "@/plan/LatePlanBanner";
import { planQuery } from "@/plan/queries";
import {
  Banner,
  Button,
  buttonClass,
  EmptyState,
  Menu,
  MenuItem,
  MenuLink,
  MenuRadio,
  MenuSeparator,
  Spinner,
} from "@/ui";
import { BackIcon, CardIcon, ChevronIcon, DesktopIcon, KeyIcon, UsageIcon, UserIcon, WarnIcon } from "@/ui/icons";
import { loadParts, part, usePart } from "@/ui/later";
import { useBarRoom } from "@/ui/media";
import { setTheme, theme, type Theme } from "@/ui/theme";

/** All pages. The focus moves to a new page, as it would between separate pages. */
export function Root() {
  const router = useRouter();
  useEffect(
    () =>
      router.subscribe("onRendered", ({ fromLocation, pathChanged }) => {
        if (!fromLocation || !pathChanged) return;
        const page = document.querySelector("main"); // not its heading, which may change once data arrives
        page?.setAttribute("tabindex", "-1");
        page?.focus({ preventScroll: true });
      }),
    [router],
  );
  return <Outlet />;
}

export function Shell() {
  const { login } = useSyncExternalStore(session.subscribe, session.getSnapshot);
  return login && <SignedIn key={login} login={login} />; // data of a page never passes to the next account
}

const Slot = createContext<HTMLElement | null>(null);

/** Contents of the bar, for the page of a desktop: the screen gets the height that a second bar would take. */
export function InBar({ children }: { children: ReactNode }) {
  const slot = useContext(Slot);
  return slot && createPortal(children, slot);
}

function SignedIn({ login }: { login: string }) {
  useLive(login);
  useEffect(loadParts, []);
  const [slot, setSlot] = useState<HTMLElement | null>(null);
  const inDesktop = useMatch({ from: "/signed-in/desktops/$id", shouldThrow: false, select: () => true }) ?? false;
  return (
    <Slot value={slot}>
      <div className="flex h-full flex-col">
        <a
          href="#main"
          className="sr-only z-50 rounded-md bg-accent px-4 py-2 text-on-accent focus:not-sr-only focus:fixed focus:top-2 focus:left-2"
        >
          Skip to content
        </a>
        <header
          className={`relative flex shrink-0 items-center border-b border-line bg-panel ${inDesktop ? "h-11.25 px-1 sm:gap-1" : "h-13 gap-1 px-3 sm:px-4"}`}
        >
          {inDesktop ? <DesktopBarStart setSlot={setSlot} /> : <BarStart />}
          <LiveMark />
          <AttentionMark brief={inDesktop} />
          <AccountMenu inDesktop={inDesktop} />
        </header>
        <Notifications login={login} />
        <LatePlanBanner />
        <Outlet />
      </div>
    </Slot>
  );
}

const tab =
  "inline-flex min-h-9 items-center gap-2 rounded-md px-2.5 text-sm text-muted hover:text-ink aria-[current=page]:bg-accent-soft aria-[current=page]:font-medium aria-[current=page]:text-accent-ink forced-colors:aria-[current=page]:underline";

function BarStart() {
  const billing = useQuery(planQuery).data?.billing;
  return (
    <>
      <Link
        to="/"
        className="mr-2 inline-flex shrink-0 items-center gap-2 rounded-md font-semibold"
        aria-label="CloudBot, go to desktops"
      >
        <img src="/app/icon.svg" alt="" width="26" height="26" />
        <span className="hidden sm:inline">CloudBot</span>
      </Link>
      <nav aria-label="Main" className="mr-auto flex items-center gap-1">
        <Link to="/" activeOptions={{ exact: true, includeSearch: false }} className={tab}>
          <DesktopIcon />
          <span className="max-[400px]:sr-only">Desktops</span>
        </Link>
        <Link to="/keys" className={tab}>
          <KeyIcon />
          <span className="max-[400px]:sr-only">API keys</span>
        </Link>
        <Link to="/usage" activeOptions={{ includeSearch: false }} className={tab}>
          <UsageIcon />
          <span className="max-[400px]:sr-only">Usage</span>
        </Link>
        {billing && (
          // A narrow bar has no room for it; the account's menu has it too.
          <Link to="/plan" activeOptions={{ includeSearch: false }} className={`${tab} max-sm:hidden`}>
            <CardIcon />
            Plan
          </Link>
        )}
      </nav>
    </>
  );
}

function DesktopBarStart({ setSlot }: { setSlot: (slot: HTMLElement | null) => void }) {
  return (
    <>
      <Link
        to="/"
        aria-label="Back to desktops"
        title="Back to desktops"
        className="inline-flex size-9 shrink-0 items-center justify-center rounded-md hover:bg-sunken"
      >
        <BackIcon />
      </Link>
      <div ref={setSlot} className="flex min-w-0 flex-1 items-center sm:gap-1" />
    </>
  );
}

/** Reports when the page may show old data. */
function LiveMark() {
  const waits = useLiveState() === "waiting";
  return (
    <span role="status" title={waits ? "Connection lost; retrying…" : undefined} className="min-w-0 text-sm text-warn">
      {waits && (
        <span className="flex items-center px-1">
          <WarnIcon className="size-5 shrink-0 md:hidden" />
          <span className="truncate max-md:sr-only">Connection lost; retrying…</span>
        </span>
      )}
    </span>
  );
}

function AccountMenu({ inDesktop }: { inDesktop: boolean }) {
  const { data: me } = useQuery(meQuery);
  const { narrow } = useBarRoom();
  if (inDesktop && narrow) return null; // the desktop's own menu has the account's
  return (
    <Menu
      trigger={
        <button
          type="button"
          className="inline-flex min-h-9 max-w-56 shrink-0 items-center gap-1.5 rounded-md px-2 text-sm hover:bg-sunken"
        >
          <UserIcon />
          <span className="sr-only">Account</span>
          {!inDesktop && <span className="hidden truncate md:inline">{me?.email}</span>}
          <ChevronIcon className="size-4" />
        </button>
      }
    >
      <AccountItems withKeys={inDesktop} />
    </Menu>
  );
}

/** The items of the account's menu. withKeys: with the links that other pages have in their bar. */
export function AccountItems({ withKeys }: { withKeys: boolean }) {
  const { data: me } = useQuery(meQuery);
  const billing = useQuery(planQuery).data?.billing;
  const [chosen, choose] = useState<Theme>(theme());
  return (
    <>
      {me && <div className="max-w-72 truncate px-3 py-1.5 text-xs text-muted">{me.email}</div>}
      <MenuLink render={<Link to="/account" />} icon={<UserIcon />}>
        Account and sessions
      </MenuLink>
      {billing && (
        <MenuLink render={<Link to="/plan" />} icon={<CardIcon />}>
          Plan and payments
        </MenuLink>
      )}
      {withKeys && (
        <>
          <MenuLink render={<Link to="/keys" />} icon={<KeyIcon />}>
            API keys
          </MenuLink>
          <MenuLink render={<Link to="/usage" />} icon={<UsageIcon />}>
            Usage
          </MenuLink>
        </>
      )}
      <MenuSeparator />
      <MenuRadio
        label="Appearance"
        value={chosen}
        onChange={(t) => {
          setTheme(t);
          choose(t);
        }}
        options={[
          { value: "system", label: "System" },
          { value: "light", label: "Light" },
          { value: "dark", label: "Dark" },
        ]}
      />
      <MenuSeparator />
      <MenuItem onSelect={() => void logOut()}>Log out</MenuItem>
    </>
  );
}

export async function logOut() {
  const me = queryClient.getQueryData(meQuery.queryKey);
  if (me) {
    clearOutboxes(me.id); // unsent messages belong to the account, and another user may log in here
    await import("@/chat/depot").then(({ clear }) => clear(me.id)).catch(() => undefined);
  }
  try {
    await call(api.POST("/api/auth/logout", { signal: AbortSignal.timeout(5_000) }));
  } catch {
    // The tokens are deleted here in any case; the session expires.
  }
  session.end();
}

/** A page that scrolls. Freely placed content, such as text for screen readers, scrolls with it. */
export function PageFrame() {
  return (
    <main id="main" tabIndex={-1} className="relative min-h-0 flex-1 overflow-y-auto outline-none">
      <div className="mx-auto w-full max-w-5xl px-4 py-6 sm:px-6 sm:py-8">
        <Outlet />
      </div>
    </main>
  );
}

/** A page that fills the window, until it is loaded. */
export function BareFrame({ children }: { children: ReactNode }) {
  return (
    <main id="main" tabIndex={-1} className="relative min-h-0 flex-1 overflow-y-auto p-6 outline-none">
      {children}
    </main>
  );
}

/** Replaces a page that is loading. */
export function Pending() {
  return (
    <div className="py-14 text-center text-muted">
      <Spinner label="Loading…" />
    </div>
  );
}

/**
 * A page that is loaded when it is opened, or earlier when the browser is idle. If loading fails, the page shows so
 * and offers to retry; other pages are not affected. (The router's own version would reload the whole dashboard.)
 */
export function latePage(load: () => Promise<ComponentType>, Frame: ComponentType<{ children: ReactNode }> = Framed) {
  const it = part(load);
  function Page() {
    const { value: Loaded, failed, again } = usePart(it, true);
    return Loaded ? <Loaded /> : <Frame>{failed ? <PageNotLoaded again={again} /> : <Pending />}</Frame>;
  }
  // The router waits for this before it leaves the previous page.
  Page.preload = () =>
    it.load().then(
      () => undefined,
      () => undefined,
    );
  return Page;
}

const Framed = ({ children }: { children: ReactNode }) => children;

function PageNotLoaded({ again }: { again: () => void }) {
  return (
    <>
      <Title>Not loaded</Title>
      <EmptyState
        icon={<WarnIcon className="size-10" />}
        title="This page could not be loaded"
        action={
          <Button variant="primary" onClick={again}>
            Try again
          </Button>
        }
      >
        <p role="alert">The server cannot be reached. Check your connection, then try again.</p>
      </EmptyState>
    </>
  );
}

export function PageTitle({ children, action, back }: { children: string; action?: ReactNode; back?: ReactNode }) {
  return (
    <div className="mb-6 flex flex-wrap items-center justify-between gap-3">
      <Title>{children}</Title>
      <div className="min-w-0">
        {back}
        <h1 className="text-2xl font-semibold tracking-tight break-words">{children}</h1>
      </div>
      {action}
    </div>
  );
}

export function NotFound() {
  return (
    <main id="main">
      <Missing />
    </main>
  );
}

/** NotFound within a page's frame. */
export function Missing() {
  return (
    <>
      <Title>Not found</Title>
      <EmptyState
        icon={<WarnIcon className="size-10" />}
        title="Page not found"
        action={
          <Link to="/" className={buttonClass("primary")}>
            Go to desktops
          </Link>
        }
      >
        The address may be wrong, or the page no longer exists.
      </EmptyState>
    </>
  );
}

export function Broken({ error }: { error: unknown }) {
  const router = useRouter();
  return (
    <main id="main" className="mx-auto max-w-lg p-6">
      <h1 className="mb-4 text-xl font-semibold">This page stopped working</h1>
      <Banner tone="bad">{sentence(error)}</Banner>
      <div className="mt-4 flex gap-2">
        <Button variant="primary" onClick={() => location.reload()}>
          Reload
        </Button>
        <Button onClick={() => void router.navigate({ to: "/" })}>Go to desktops</Button>
      </div>
    </main>
  );
}
