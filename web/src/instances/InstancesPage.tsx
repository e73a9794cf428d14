import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { sentence } from "@/api/client";
import { instancesQuery } from "@/api/queries";
import { Title } from "@/attention/Title";
import { gateOf } from "@/plan/gate";
import { LargerPlan } from "@/plan/LargerPlan";
import { planQuery } from "@/plan/queries";
import { PageTitle } from "@/shell";
import { Banner, Button, buttonClass, Spinner, Switch } from "@/ui";
import { DesktopIcon, PlusIcon } from "@/ui/icons";
import { part, usePart, whenOpen } from "@/ui/later";
import { useCreate } from "./commands";
import { InstanceCard } from "./InstanceCard";
import { isFull, quotaWords } from "./quota";

const price = part(async () => (await import("@/money/DefaultPrice")).DefaultPrice);
const CreateDialog = whenOpen(async () => (await import("./CreateDialog")).CreateDialog);

export function InstancesPage() {
  const search = useSearch({ from: "/signed-in/framed/" });
  const navigate = useNavigate({ from: "/" });
  const list = useInfiniteQuery(instancesQuery(search.terminated ?? false));
  const instances = list.data?.pages.flatMap((p) => p.instances) ?? [];
  const create = (open: boolean) =>
    void navigate({
      search: { ...(search.terminated ? { terminated: true } : {}), ...(open ? { create: true } : {}) },
      replace: !open,
    });

  const quota = list.data?.pages[0]?.quota;
  const plan = useQuery(planQuery);
  const first = list.isSuccess && instances.length === 0 && !search.terminated;
  // A new user has no terminated desktops to show.
  const ended = useInfiniteQuery({ ...instancesQuery(true), enabled: first });
  const offer = list.isSuccess && (!first || (ended.data?.pages[0]?.instances.length ?? 0) > 0);
  return (
    <>
      {first ? (
        <FirstMinute onChoose={() => create(true)} />
      ) : (
        <>
          <PageTitle
            action={
              <Button variant="primary" onClick={() => create(true)}>
                <PlusIcon />
                New desktop
              </Button>
            }
          >
            Desktops
          </PageTitle>
          {isFull(quota) && !gateOf(plan.data) && (
            <Banner tone="info" className="mb-4" action={<LargerPlan />}>
              {quotaWords(quota)}
            </Banner>
          )}
          {list.isPending && (
            <div className="py-14 text-center text-muted">
              <Spinner label="Loading your desktops…" />
            </div>
          )}
          {list.error && (
            <Banner
              tone="bad"
              action={
                <Button size="small" onClick={() => void list.refetch()}>
                  Try again
                </Button>
              }
            >
              {sentence(list.error)}
            </Banner>
          )}
          <ul className="flex flex-col gap-3">
            {instances.map((i) => (
              <li key={i.id}>
                <InstanceCard instance={i} />
              </li>
            ))}
          </ul>
          {list.hasNextPage && (
            <div className="mt-4 text-center">
              <Button busy={list.isFetchingNextPage} onClick={() => void list.fetchNextPage()}>
                Show more
              </Button>
            </div>
          )}
        </>
      )}
      {offer && (
        <div className="mt-8 flex justify-end">
          <Switch
            label="Show terminated desktops"
            checked={search.terminated ?? false}
            onChange={(on) => void navigate({ search: on ? { terminated: true } : {}, replace: true })}
          />
        </div>
      )}
      <CreateDialog open={search.create ?? false} onClose={() => create(false)} />
    </>
  );
}

/** What a new user sees: one button. */
function FirstMinute({ onChoose }: { onChoose: () => void }) {
  const navigate = useNavigate();
  const make = useCreate();
  const { value: Price } = usePart(price, true);
  const plan = useQuery(planQuery);
  const gate = gateOf(plan.data);
  return (
    <section
      aria-labelledby="first"
      className="mx-auto flex max-w-xl flex-col items-center gap-4 py-10 text-center sm:py-16"
    >
      <Title>Your first desktop</Title>
      <span className="rounded-2xl bg-accent-soft p-4 text-accent-ink">
        <DesktopIcon className="size-12" />
      </span>
      <h1 id="first" className="text-3xl font-semibold tracking-tight text-balance">
        A computer of your own, with an agent on it
      </h1>
      <p className="text-pretty text-muted">
        You can watch it start. Then its screen appears here, next to the agent that works on the same machine. Ask for
        something and watch.
      </p>
      {gate ? (
        <>
          <p className="text-pretty">{gate.why}</p>
          <Link to="/plan" className={buttonClass("primary", "large")}>
            {gate.action}
          </Link>
        </>
      ) : (
        <>
          {make.error && (
            <Banner tone="bad" className="text-left">
              {sentence(make.error)}
            </Banner>
          )}
          <Button
            variant="primary"
            size="large"
            busy={make.isPending || plan.isPending}
            onClick={() =>
              make.mutate({}, { onSuccess: (i) => void navigate({ to: "/desktops/$id", params: { id: i.id } }) })
            }
          >
            Create my desktop
          </Button>
          <p className="min-h-5 text-sm">{Price && <Price />}</p>
          <Button variant="quiet" size="small" onClick={onChoose}>
            Choose a name and a size first
          </Button>
        </>
      )}
    </section>
  );
}
