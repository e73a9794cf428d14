// A server for the tests: the real program on its embedded defaults, with an empty data folder.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";

const program = new URL("../../bin/cloudbot", import.meta.url).pathname;

/** Returns a port below those that the kernel assigns: no other program gets it while the server restarts. */
async function freePort(): Promise<number> {
  for (let i = 0; i < 100; i++) {
    const port = 10_000 + Math.floor(Math.random() * 10_000);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
  throw new Error("no port");
}

export class Server {
  #process: ChildProcess | undefined;
  #said = "";

  readonly #dir: string;
  readonly #port: number;
  readonly #admin: number;
  readonly #settings: Record<string, string>;

  /** Use `start`, which chooses the folder and the ports. */
  constructor(dir: string, port: number, admin: number, settings: Record<string, string>) {
    this.#dir = dir;
    this.#port = port;
    this.#admin = admin;
    this.#settings = settings;
  }

  get url() {
    return `http://127.0.0.1:${this.#port}`;
  }

  static async start(settings: Record<string, string> = {}): Promise<Server> {
    const dir = await mkdtemp(join(tmpdir(), "cloudbot-web-"));
    await chmod(dir, 0o711); // as root, Postgres and the desktops run as other users, which need to enter the folder
    const server = new Server(dir, await freePort(), await freePort(), { ...settings });
    await server.run();
    return server;
  }

  /** Runs one of the operator's tools beside the server. */
  async tool(...args: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)(program, args, { env: this.#env(), cwd: this.#dir });
    return stdout;
  }

  /** The files that desktops' demo agents got with messages. */
  async media(): Promise<{ name: string; bytes: Buffer }[]> {
    const all = await readdir(this.#dir, { recursive: true }).catch(() => []);
    const found = all.filter((path) => path.includes(".cloudbot-stand-in/media/"));
    return Promise.all(
      found.map(async (path) => ({ name: basename(path), bytes: await readFile(join(this.#dir, path)) })),
    );
  }

  /** Restarts it with other settings. */
  async restart(settings: Record<string, string>) {
    await this.end();
    Object.assign(this.#settings, settings);
    await this.run();
  }

  #env() {
    return {
      PATH: process.env.PATH,
      HOME: this.#dir,
      DATA_DIR: this.#dir,
      PORT: String(this.#port),
      ADMIN_ADDR: `127.0.0.1:${this.#admin}`,
      MAX_INSTANCES_PER_USER: "3",
      TRUSTED_PROXIES: "127.0.0.1/32",
      LOCAL_AGENT: "stand-in",
      ...this.#settings,
    };
  }

  async run() {
    const child = spawn(program, ["serve"], {
      env: this.#env(),
      cwd: this.#dir,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = child;
    child.stdout.on("data", (d) => (this.#said += d));
    child.stderr.on("data", (d) => (this.#said += d));
    for (let i = 0; i < 600; i++) {
      if (child.exitCode !== null) break;
      const ready = await fetch(`${this.url}/ready`).catch(() => undefined);
      if (ready?.ok) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`the server did not become ready:\n${this.#said.slice(-4_000)}`);
  }

  /** Ends the program like a deploy (SIGTERM) or a power cut (SIGKILL). */
  async end(signal: "SIGTERM" | "SIGKILL" = "SIGTERM") {
    const child = this.#process;
    if (!child || child.exitCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await gone;
  }

  async remove() {
    await this.end();
    await rm(this.#dir, { recursive: true, force: true });
  }
}
