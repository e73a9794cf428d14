// Joins CycloneDX lists of parts into one, without what differs between two runs: serial numbers, the time of the run.
// Usage: node sbom.mjs NAME VERSION TIME FILE ...
import { readFileSync } from "node:fs";

const [name, version, timestamp, ...files] = process.argv.slice(2);
const root = { "bom-ref": name, type: "application", name, version };
const components = new Map();
const needs = new Map();
const need = (ref, on = []) => needs.set(ref, new Set([...(needs.get(ref) ?? []), ...on]));

need(root["bom-ref"]);
for (const file of files) {
  const bom = JSON.parse(readFileSync(file, "utf8"));
  const main = bom.metadata?.component;
  if (!main || !Array.isArray(bom.components)) throw new Error(`${file} is not a CycloneDX list of parts`);
  need(root["bom-ref"], [main["bom-ref"]]);
  for (const c of [main, ...bom.components]) {
    if (!components.has(c["bom-ref"])) components.set(c["bom-ref"], c);
  }
  for (const d of bom.dependencies ?? []) need(d.ref, d.dependsOn);
}
const by = (key) => (a, b) => (a[key] < b[key] ? -1 : a[key] > b[key] ? 1 : 0);
console.log(
  JSON.stringify(
    {
      bomFormat: "CycloneDX",
      specVersion: "1.5",
      version: 1,
      metadata: { timestamp, component: root },
      components: [...components.values()].sort(by("bom-ref")),
      dependencies: [...needs].map(([ref, on]) => ({ ref, dependsOn: [...on].sort() })).sort(by("ref")),
    },
    null,
    2,
  ),
);
