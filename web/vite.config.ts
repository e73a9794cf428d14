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
    manifest: true, // scripts/size.mjs reads what the first load consists of
    assetsInlineLimit: 0, // the policy allows no data: scripts or fonts, and files are cached for ever
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  // `npm run dev` serves the pages itself and asks a running server for the rest.
  server: { proxy: { "/api": { target: server, ws: true }, "/assets": server } },
  test: { include: ["src/**/*.test.{ts,tsx}"], environment: "node" },
});
