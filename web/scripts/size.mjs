// Fails if the first load is too large: the entry chunk with its static imports, and the page itself. Run after `vite
// build`. e2e/pages.spec.ts measures what a browser really fetches.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const limit = 150_000; // bytes, gzip
const dist = new URL("../dist/", import.meta.url);
const manifest = JSON.parse(readFileSync(new URL(".vite/manifest.json", dist)));
const size = (name) => gzipSync(readFileSync(new URL(name, dist)), { level: 9 }).length;

const files = new Set(["index.html", "theme.js"]);
const take = (key) => {
  const chunk = manifest[key];
  if (files.has(chunk.file)) return;
  files.add(chunk.file);
  chunk.css?.forEach((f) => files.add(f));
  chunk.imports?.forEach(take);
};
take("index.html");

let total = 0;
for (const name of files) {
  total += size(name);
}
console.log(`first load: ${files.size} files, ${total} bytes gzip of ${limit} allowed`);
for (const chunk of Object.values(manifest)) {
  if (!files.has(chunk.file) && chunk.file.endsWith(".js")) console.log(`  later: ${chunk.file} ${size(chunk.file)}`);
}
if (total > limit) {
  console.error("the first load is too large: load something of it later");
  process.exit(1);
}
