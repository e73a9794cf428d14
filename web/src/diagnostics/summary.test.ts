import { describe, expect, it } from "vitest";
import { telling } from "./log";
import { parsed, programsOf, summaryOf } from "./summary";

const GB = 2 ** 30;
const healthy = {
  agent: { healthy: true, kind: "OpenClaw" },
  desktop: { healthy: true, kind: "TigerVNC with openbox", width: 1280, height: 800 },
  guest_uptime_seconds: 61,
  health: {
    uptime_seconds: 3_700,
    load: 0.42,
    memory_total: 4 * GB,
    memory_available: 2.8 * GB,
    disk_free: 19 * GB,
    disk_total: 30 * GB,
  },
  keys: ["OPENAI_API_KEY"],
  tunnel: { up_since: "2026-11-28T02:59:09Z" },
};
const fact = (report: object, name: string) => summaryOf(report as never).facts.find((f) => f.name === name)?.value;

describe("a machine's state", () => {
  it("is sentences with units", () => {
    expect(fact(healthy, "Memory")).toBe("1.2 of 4 GB used");
    expect(fact(healthy, "Disk")).toBe("11 of 30 GB used, 19 GB free");
    expect(fact(healthy, "Agent")).toBe("Answers (OpenClaw)");
    expect(fact(healthy, "Screen")).toBe("1280 × 800");
    expect(fact(healthy, "Machine running for")).toBe("1 h 2 min");
    expect(fact(healthy, "Load")).toBe("0.4 programs at work, on average over the last minute");
    expect(fact(healthy, "API keys")).toBe("OPENAI_API_KEY");
    expect(summaryOf(healthy).problems).toEqual([]);
  });

  it("says what older guests do not report", () => {
    for (const { name, value } of summaryOf({}).facts) expect(value, name).toBe("Not reported");
    const old = { health: { ...healthy.health, disk_total: undefined } };
    expect(fact(old, "Disk")).toBe("19 GB free; its size is not reported");
  });

  it("says what is wrong and what to do first", () => {
    const ill = {
      ...healthy,
      desktop: { healthy: false },
      keys: [],
      health: { ...healthy.health, disk_free: GB, memory_available: 0.1 * GB },
    };
    expect(summaryOf(ill).problems.map((p) => p.what)).toEqual([
      "The desktop does not answer.",
      "The disk is almost full.",
      "The memory is almost full.",
      "The agent has no API key, so it has no model.",
    ]);
    expect(summaryOf({ ...healthy, keys: [], agent: { healthy: true, kind: "built-in stand-in" } }).problems).toEqual(
      [],
    );
  });

  it("shows no value that a hostile machine makes up without a limit", () => {
    const bad = {
      agent: { healthy: "yes", kind: `a\u202eb\n${"x".repeat(10_000)}` },
      desktop: { healthy: 1, width: 1e9, height: -3 },
      guest_uptime_seconds: 1e300,
      health: { load: "1", memory_total: -1, memory_available: NaN, disk_free: 1e30, uptime_seconds: null },
      keys: Array.from({ length: 1_000 }, () => ({})),
      tunnel: { up_since: "<b>" },
    };
    const { facts } = summaryOf(bad);
    for (const f of facts) expect(f.value.length, f.name).toBeLessThan(200);
    expect(fact(bad, "Agent")).toMatch(/^Not reported \(a b x+…\)$/);
    for (const name of ["Screen", "Memory", "Disk", "Load", "Guest running for", "Connected since"])
      expect(fact(bad, name), name).toBe("Not reported");
    for (const odd of ["", "null", "[]", "7", "{"]) expect(parsed(odd), odd).toBeUndefined();
    expect(programsOf({ programs: Array.from({ length: 500 }, () => ({ name: "x" })) })).toHaveLength(42);
  });

  it("lists programs with their versions", () => {
    const report = {
      guest: "1.2",
      os: "linux/amd64",
      programs: [{ name: "node", path: "/n", version: "v24" }, { name: "xterm" }, { name: "Xvfb", path: "/x" }, 7],
    };
    expect(programsOf(report).map((f) => `${f.name}: ${f.value}`)).toEqual([
      "Guest: 1.2",
      "Processor: linux/amd64",
      "node: v24",
      "xterm: Not installed",
      "Xvfb: Installed",
    ]);
  });
});

// As a healthy machine wrote it (TigerVNC 1.12.0).
const noise = `desktop: 
desktop: Xvnc TigerVNC 1.12.0 - built 2023-01-06 16:01
desktop: Copyright (C) 1999-2021 TigerVNC Team and many others (see README.rst)
desktop: See https://www.tigervnc.org for information on TigerVNC.
desktop: Underlying X server release 12101006, X.Org
desktop: Sat Nov 28 02:59:09 2026
desktop:  vncext:      VNC extension running!
desktop:  vncext:      Listening for VNC connections on local interface(s), port 38545
desktop:  vncext:      created VNC server for screen 0
desktop: [mi] mieq: warning: overriding existing handler (nil) with 0x559442a4b180 for event 2
desktop:  Connections: accepted: 127.0.0.1::49320
desktop:  VNCSConnST:  closing 127.0.0.1::49320: read: Connection reset by peer (104)
desktop:  EncodeManager:          0 B (1:-nan ratio)
desktop:  Connections: closed: 127.0.0.1::49320
desktop:  ComparingUpdateTracker: 0 pixels in / 0 pixels out
desktop: The XKEYBOARD keymap compiler (xkbcomp) reports:
desktop: > Warning:          Could not resolve keysym XF86CameraAccessEnable
desktop: Errors from xkbcomp are not fatal to the X server
`;
const telltale = `time=2026-11-28T02:59:09.169Z level=INFO msg="guest started" version=dev
desktop: (EE) Fatal server error:
desktop:  VNCSConnST:  closing 127.0.0.1::1: Too many authentication failures
agent: EncodeManager: not the X server's
`;

it("leaves out what a healthy X server writes, and nothing else", () => {
  expect(telling(noise)).toEqual({ text: "", left: 18 });
  expect(telling(noise + telltale)).toEqual({ text: telltale.trimEnd(), left: 18 });
  expect(telling(telltale).left).toBe(0);
});
