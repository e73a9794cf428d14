import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const server = process.env.CLOUDBOT_URL ?? "http://127.0.0.1:8000";

export default defineConfig({
  base: "/app/",
  plugins: [react(), tailwindcss()],
  resolve: { alias: { "@": new URL("./src", import.meta.url).pathname } },
  build: {
    target: "es2023",
    manifest: true, // scripts/size.mjs reads the contents of the first load
    assetsInlineLimit: 0, // the policy forbids data: scripts and fonts, and browsers cache files permanently
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // What every page needs is one file, and its libraries, which change less often, another. Left to itself, the bundler
    // makes a file of each module that a later part shares: dozens of small files, which compress worse.
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: "libraries", tags: ["$initial"], test: /node_modules/, priority: 1 },
            { name: "first", tags: ["$initial"], test: /src.(?!main\.tsx)/ }, // main.tsx stays the entry
          ],
        },
      },
    },
  },
  // `npm run dev` serves the pages and forwards other requests to a running server.
  server: { proxy: { "/api": { target: server, ws: true }, "/assets": server } },
  test: { include: ["src/**/*.test.{ts,tsx}"], environment: "node" },
});
