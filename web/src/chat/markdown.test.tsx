import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, test } from "vitest";
import Markdown, { outside } from "./markdown";

const html = (text: string) => renderToStaticMarkup(<Markdown text={text} />);

describe("Markdown from a machine", () => {
  test.each([
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](java&#x0A;script:alert(1))",
    "[a](&#106;avascript:alert(1))",
    "<javascript:alert(1)>",
    "[a]: javascript:alert(1)\n\n[a]",
    "[a](data:text/html,<script>alert(1)</script>)",
    "[a](vbscript:x)",
    "[a](//evil.example)",
    "[a](/api/instances)",
    "[a](file:///etc/passwd)",
    "[a](blob:https://x/y)",
  ])("%s leads nowhere", (text) => expect(html(text)).not.toMatch(/href/));

  test.each(["https://example.com/a?b=c", "http://example.com/", "mailto:a@example.com"])(
    "%s is followed in a new tab that knows nothing of this one",
    (to) => {
      expect(outside(to)).toBe(to);
      expect(html(`[a](${to})`)).toMatch(/<a href="[^"]+" target="_blank" rel="noopener noreferrer"/);
    },
  );

  test("pictures are not loaded", () => {
    expect(html("![alt](https://example.com/x.png)")).toMatch(/<a [^>]*>Picture: alt<\/a>/);
    for (const text of [
      "![alt](https://example.com/x.png)",
      "![alt](javascript:x)",
      "![](data:image/png;base64,AAAA)",
      "[![a](https://e.com/x)](https://e.com)",
    ])
      expect(html(text)).not.toMatch(/<img/);
  });

  test.each([
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "a <b onclick=x>b</b>",
    "<iframe src=https://e.com></iframe>",
    "<svg/onload=alert(1)>",
    "<style>*{display:none}</style>",
  ])("%s stays text", (text) => {
    expect(html(text)).not.toMatch(/<(img|script|b|iframe|svg|style)[\s>/]/);
    expect(html(text)).toContain("&lt;");
  });

  test("code shows its language, and its copy button has a name", () => {
    const block = html('```go\nfmt.Println("<b>")\n```');
    expect(block).toContain(">go<");
    expect(block).toContain('aria-label="Copy the go code"');
    expect(block).toContain("&lt;b&gt;");
  });
});
