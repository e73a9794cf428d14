// A line between the browser and the server that can go dead: existing connections stay open but carry no data, as when
// a router forgets a connection. New connections work.
import { connect, createServer, type Server, type Socket } from "node:net";

export class Line {
  #ends: Socket[] = [];
  #dead = new Set<Socket>();

  readonly #server: Server;

  /** Use `to`, which listens first. */
  constructor(
    readonly url: string,
    server: Server,
  ) {
    this.#server = server;
  }

  static async to(url: string): Promise<Line> {
    const far = new URL(url);
    const server = createServer((near) => line.#join(near, connect(Number(far.port), far.hostname)));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (!address || typeof address === "string") throw new Error("no port");
    const line = new Line(`http://127.0.0.1:${address.port}`, server);
    return line;
  }

  #join(a: Socket, b: Socket) {
    this.#ends.push(a, b);
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      from.on("data", (d) => this.#dead.has(from) || to.write(d));
      from.on("close", () => this.#dead.has(from) || to.destroy());
      from.on("error", () => undefined); // close follows
    }
  }

  /** Makes all current connections go dead. */
  die() {
    for (const end of this.#ends) this.#dead.add(end);
  }

  close() {
    for (const end of this.#ends) end.destroy();
    this.#server.close();
  }
}
