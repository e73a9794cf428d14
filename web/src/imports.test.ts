import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";

type Graph = Map<string, string[]>;

/** The modules under src with the modules of src that each imports: statically, as a type or later with import(). */
function graphOf(src: string): Graph {
  const files = new Set(readdirSync(src, { recursive: true, encoding: "utf8" }).filter((f) => /\.tsx?$/.test(f)));
  const find = (path: string) => [path, `${path}.ts`, `${path}.tsx`, join(path, "index.ts")].find((f) => files.has(f));
  const targets = (file: string) => {
    const text = readFileSync(join(src, file), "utf8");
    return [...text.matchAll(/\b(?:from |import |import\()"([.@][^"]*\/[^"]+)"/g)].flatMap(([, name]) => {
      const path = name!.startsWith("@/") ? name!.slice(2) : join(dirname(file), name!);
      return find(normalize(path)) ?? [];
    });
  };
  return new Map([...files].map((f) => [f, targets(f)]));
}

/** The first import circle of the graph, its first module named again at the end; none if there is no circle. */
function circle(graph: Graph): string[] {
  const done = new Set<string>();
  const visit = (file: string, path: string[]): string[] => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return [];
    for (const next of graph.get(file) ?? []) {
      const found = visit(next, [...path, file]);
      if (found.length > 0) return found;
    }
    done.add(file);
    return [];
  };
  return [...graph.keys()].map((f) => visit(f, [])).find((c) => c.length > 0) ?? [];
}

const graph = graphOf(new URL(".", import.meta.url).pathname);

test("no module imports itself through others", () => {
  expect(circle(graph)).toEqual([]);
});

test("a circle through a page that is loaded later is found", () => {
  expect(graph.get("router.tsx")).toContain("workspace/WorkspacePage.tsx");
  const planted: Graph = new Map([...graph, ["search.ts", ["router.tsx"]]]);
  expect(circle(planted)).toContain("search.ts");
});
