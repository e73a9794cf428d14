// A small Stripe for the tests (adapters/stripe/stripetest), run as a process: its pages work in a browser, and a test
// controls its clock, its cards and its messages to the server.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const root = new URL("../..", import.meta.url).pathname;
const program = `${root}bin/stripetest`;

/** Cards that Stripe's own tests have too. */
export const cards = {
  good: "4242 4242 4242 4242",
  declined: "4000 0000 0000 0002",
};

type Start = {
  url: string;
  secret_key: string;
  publishable_key: string;
  webhook_secret: string;
  prices: { starter: string; pro: string; enterprise: string };
};

export class Stripe {
  readonly #process: ChildProcess;
  readonly #start: Start;

  /** Use `start`. */
  constructor(child: ChildProcess, start: Start) {
    this.#process = child;
    this.#start = start;
  }

  static async start(): Promise<Stripe> {
    const flags = ["-trimpath", "-ldflags", "-s -w"]; // those of make build, which shares its packages
    await promisify(execFile)("go", ["build", ...flags, "-o", program, "./adapters/stripe/stripetest/cmd/stripetest"], {
      cwd: root,
      env: { ...process.env, CGO_ENABLED: "0" },
    });
    const child = spawn(program, [], { stdio: ["ignore", "pipe", "inherit"] });
    const line = await new Promise<string>((resolve, reject) => {
      createInterface(child.stdout!).once("line", resolve);
      child.once("exit", (code) => reject(new Error(`the small Stripe ended with ${code}`)));
    });
    return new Stripe(child, JSON.parse(line) as Start);
  }

  get url() {
    return this.#start.url;
  }

  /** The server's settings. */
  get settings(): Record<string, string> {
    const { url, secret_key, publishable_key, webhook_secret, prices } = this.#start;
    return {
      STRIPE_API_URL: url,
      STRIPE_SECRET_KEY: secret_key,
      STRIPE_PUBLISHABLE_KEY: publishable_key,
      STRIPE_WEBHOOK_SECRET: webhook_secret,
      STRIPE_PRICE_ID_STARTER: prices.starter,
      STRIPE_PRICE_ID_PRO: prices.pro,
      STRIPE_PRICE_ID_ENTERPRISE: prices.enterprise,
    };
  }

  /** Has a control do something, such as "advance" a clock. */
  async control(name: string, order: Record<string, unknown>): Promise<void> {
    const answer = await fetch(`${this.url}/control/${name}`, { method: "POST", body: JSON.stringify(order) });
    if (!answer.ok) throw new Error(`${name}: ${answer.status} ${await answer.text()}`);
  }

  async end() {
    if (this.#process.exitCode !== null) return;
    const gone = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill();
    await gone;
  }
}
