import { describe, expect, test } from "vitest";
import { frameOf, limitsIn, objection, tooMuch, type Limits } from "./files";
import { transcript } from "./transcript";

const usual = limitsIn({});
const file = (bytes: number, type = "", name = "f") => ({ name, type, bytes });

describe("limits of files", () => {
  test("are those of the agent, as far as the way to it allows them", () => {
    expect(limitsIn({ maxPayload: 1_000, attachments: { maxBytes: 500, maxImageBytes: 200 } })).toEqual({
      bytes: 500,
      image: 200,
      frame: 1_000,
    });
    const many = { maxPayload: 1e12, attachments: { maxBytes: 1e12, maxImageBytes: "x" } };
    expect(limitsIn(many)).toEqual(usual);
    expect(usual).toEqual({ bytes: 19_464_192, image: 6_291_456, frame: 26_214_400 });
  });

  test("hold at the byte", () => {
    expect(objection(file(usual.bytes), usual)).toBe("");
    expect(objection(file(usual.bytes + 1), usual)).toContain("and a file can have 19.4 MB");
    expect(objection(file(usual.image, "image/png"), usual)).toBe("");
    expect(objection(file(usual.image + 1, "image/png"), usual)).toContain("and a picture can have 6.2 MB");
    expect(objection(file(0), usual)).toContain("empty");
  });

  test("of a whole message count its files in base64 and its text", () => {
    const small: Limits = { ...usual, frame: 10_000 };
    const one = (bytes: number) => tooMuch("hello", [file(bytes)], small);
    let most = 0;
    while (one(most + 1) === "") most++;
    expect(most).toBeGreaterThan(5_000);
    expect(frameOf("hello", [file(most)])).toBeLessThanOrEqual(10_000);
    // What really goes out is not longer than what was counted.
    const frame = JSON.stringify({
      type: "req",
      id: "file",
      method: "chat.send",
      params: {
        sessionKey: "agent:main:main",
        message: "hello",
        idempotencyKey: "0".repeat(36),
        attachments: [
          { type: "file", mimeType: "", fileName: "f", origin: "paste", content: "A".repeat(4 * Math.ceil(most / 3)) },
        ],
      },
    });
    expect(frame.length).toBeLessThanOrEqual(frameOf("hello", [file(most)]));
    expect(tooMuch("é".repeat(4_000), [file(1_000)], small)).toContain("Remove one");
    expect(
      tooMuch(
        "",
        Array.from({ length: 11 }, () => file(1)),
        usual,
      ),
    ).toContain("can have 10 files");
  });
});

test("the history names a message's files", () => {
  const media = [
    { url: "media://inbound/x.png", contentType: "image/png", kind: "image", sizeBytes: 70 },
    { url: "javascript:1", contentType: "text/plain", fileName: "notes.txt", sizeBytes: 11 },
    "nonsense",
  ];
  const [m] = transcript([{ role: "user", content: "", idempotencyKey: "k:user", __openclaw: { id: "e", media } }]);
  expect(m?.files).toEqual([
    { name: "Picture", type: "image/png", bytes: 70 },
    { name: "notes.txt", type: "text/plain", bytes: 11 },
    { name: "File 3", type: "", bytes: 0 },
  ]);
  expect(JSON.stringify(m)).not.toContain("javascript");
});
