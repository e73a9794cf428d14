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
  },
  // `npm run dev` serves the pages and forwards other requests to a running server.
  server: { proxy: { "/api": { target: server, ws: true }, "/assets": server } },
  test: { include: ["src/**/*.test.{ts,tsx}"], environment: "node" },
});
