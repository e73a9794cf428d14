// A reverse proxy between the browser and the server with a common mistake: it passes on either the Upgrade header or
// the Host header, but not both.
import { createServer, request, type IncomingHttpHeaders, type IncomingMessage, type Server } from "node:http";
import type { Duplex } from "node:stream";

/** The status line and the headers of a response, unchanged. */
const head = (a: IncomingMessage) =>
  `HTTP/1.1 ${a.statusCode} ${a.statusMessage}\r\n${a.rawHeaders.reduce((text, s, i) => text + s + (i % 2 ? "\r\n" : ": "), "")}\r\n`;

export class Proxy {
  readonly #server: Server;

  /** Use `to`, which listens first. */
  constructor(
    readonly url: string,
    server: Server,
  ) {
    this.#server = server;
  }

  static async to(url: string, { upgrades }: { upgrades: boolean }): Promise<Proxy> {
    const far = new URL(url);
    const onward = (r: IncomingMessage, headers: IncomingHttpHeaders) =>
      request({
        host: far.hostname,
        port: far.port,
        method: r.method,
        path: r.url,
        headers: { ...headers, host: upgrades ? far.host : headers.host },
      });
    const server = createServer((r, answer) => {
      const { upgrade: _, connection: __, ...headers } = r.headers;
      const next = onward(r, headers);
      next.on("response", (a) => a.pipe(answer.writeHead(a.statusCode ?? 502, a.headers)));
      next.on("error", () => answer.destroy());
      answer.on("close", () => next.destroy());
      r.pipe(next);
    });
    if (upgrades) {
      server.on("upgrade", (r, near: Duplex) => {
        const next = onward(r, r.headers);
        next.on("upgrade", (a, back) => {
          near.write(head(a));
          back.pipe(near).pipe(back);
          back.on("error", () => near.destroy());
        });
        next.on("response", (a) => near.end(head(a)));
        next.on("error", () => near.destroy());
        near.on("error", () => next.destroy());
        next.end();
      });
    }
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (!address || typeof address === "string") throw new Error("no port");
    return new Proxy(`http://127.0.0.1:${address.port}`, server);
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
