import { describe, expect, test } from "vitest";
import { highlighted } from "./highlight";
import { LONGEST_MARKDOWN, MAX_NESTING, renderMarkdown } from "./markdown";

/** The reply as the page shows it; null for plain text. */
function shown(text: string, links = false): HTMLElement | null {
  const blocks = renderMarkdown(text, links);
  if (blocks === null) return null;
  const holder = document.createElement("div");
  holder.innerHTML = blocks.join("");
  return holder;
}

function rendered(text: string, links = false): HTMLElement {
  const holder = shown(text, links);
  if (holder === null) throw new Error("shown as plain text");
  return holder;
}

function html(text: string, links = false): string {
  return rendered(text, links).innerHTML.trim();
}

const ALLOWED =
  "A BLOCKQUOTE BR CODE DIV EM H3 H4 H5 H6 HR LI OL P PRE S SPAN STRONG TABLE TBODY TD TH THEAD TR UL".split(" ");

/** Nothing but what the page itself writes: no other element or attribute, and no class that a reply has chosen. */
function expectHarmless(holder: HTMLElement): void {
  for (const element of holder.querySelectorAll("*")) {
    expect(ALLOWED).toContain(element.tagName);
    for (const { name, value } of element.attributes) {
      expect(["class", "dir", "href", "rel", "start", "target"]).toContain(name);
      if (name === "href") expect(value).toMatch(/^https?:\/\//i);
      if (name === "class") {
        expect(value).toMatch(
          /^(hljs-[a-z_]+( [a-z]+_)*|language-[a-z]+|wide|listing|info|link|address|image|left|center|right|size-[1-6])$/,
        );
      }
    }
  }
}

describe("what Markdown has", () => {
  test.each([
    ["emphasis", "*a* **b** ~~c~~ `d`", "em,strong,s,code"],
    ["a list", "- a\n- b", "ul,li"],
    ["a numbered list", "3. a\n4. b", "ol,li"],
    ["a quotation", "> a", "blockquote,p"],
    ["a table", "|a|b|\n|-|:-:|\n|1|2|", "div.wide > table,th,td.center"],
    ["code", "```python\nx = 1\n```", "div.listing,pre.wide,code"],
    ["a line", "a\n\n---\n\nb", "hr"],
  ])("%s", (_, text, selectors) => {
    const holder = rendered(text);
    for (const selector of selectors.split(",")) expect(holder.querySelector(selector)).not.toBeNull();
    expectHarmless(holder);
  });

  test("a numbered list begins with its own number", () => {
    expect(rendered("3. a\n4. b").querySelector("ol")?.getAttribute("start")).toBe("3");
  });

  test("a single line break is one", () => {
    expect(html("one\ntwo")).toBe('<p dir="auto">one<br>\ntwo</p>');
  });

  test("each block is a piece of its own, which stays the same while others follow", () => {
    const before = renderMarkdown("# A\n\nOne.\n\n- a\n- b\n\nTw", false) ?? [];
    const after = renderMarkdown("# A\n\nOne.\n\n- a\n- b\n\nTwo *three*", false) ?? [];
    expect(before).toHaveLength(4);
    expect(after.slice(0, 3)).toEqual(before.slice(0, 3));
  });

  test("code has colours in languages that are known, and only escapes in others", () => {
    const python = rendered("```python\nif x: pass\n```");
    expect(python.querySelector(".hljs-keyword")?.textContent).toBe("if");
    const unknown = rendered("```brainfuck\n<+>\n```");
    expect(unknown.querySelector("code")?.innerHTML).toBe("&lt;+&gt;\n");
    expect(unknown.querySelector(".info")?.textContent).toBe("brainfuck");
    expect(rendered("```\na\n```").querySelector(".info")).toBeNull();
  });

  test("headings begin below those of the page and leave no level out", () => {
    const levels = [...rendered("### A\n\n# B\n\n###### C\n\n## D").children].map((heading) => heading.tagName);
    expect(levels).toEqual(["H3", "H3", "H4", "H4"]);
  });

  test.each(["line `one`", "```js\nlet a = 1;\n```", "|a|\n|-|\n|b|", "1. a\n   - b"])(
    "half of it, while it is streamed, is harmless at each length: %j",
    (text) => {
      for (let length = 1; length <= text.length; length += 1) {
        const holder = shown(text.slice(0, length));
        if (holder !== null) expectHarmless(holder);
      }
      expectHarmless(rendered(text));
    },
  );

  test("a code block that has not ended is one already", () => {
    expect(rendered("Look:\n```js\nlet a").querySelector("pre")?.textContent).toBe("let a");
  });
});

describe("links", () => {
  test("are text with their address", () => {
    expect(html("[the paper](https://example.org/a?b=1&c=2 'title')")).toBe(
      '<p dir="auto"><span class="link">the paper</span> <span class="address">(https://example.org/a?b=1&amp;c=2)</span></p>',
    );
    expect(rendered("<https://example.org/> https://example.org").textContent.trim()).toBe(
      "https://example.org/ https://example.org",
    );
    expect(rendered("[a](https://e.org) <https://e.org> https://e.org").querySelector("a")).toBeNull();
  });

  test("can be clicked where the study says so, and lead out of the page", () => {
    const links = [...rendered("[a](https://e.org/) <http://e.org/> https://e.org/x", true).querySelectorAll("a")];
    expect(links.map((link) => link.getAttribute("href"))).toEqual([
      "https://e.org/",
      "http://e.org/",
      "https://e.org/x",
    ]);
    for (const link of links) {
      expect(link.getAttribute("rel")).toBe("noopener noreferrer nofollow");
      expect(link.getAttribute("target")).toBe("_blank");
    }
  });

  test.each([
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "&#106;avascript:alert(1)",
    "java\\script:alert(1)",
    "\u0001javascript:alert(1)",
    "vbscript:x",
    "data:text/html,<script>alert(1)</script>",
    "data:text/html;base64,PHNjcmlwdD4=",
    "file:///etc/passwd",
    "blob:https://e.org/1",
    "ftp://e.org/",
    "mailto:a@e.org",
    "//e.org/x",
    "/x",
    "#x",
    "?x",
    "https:",
    "https:e.org",
    "http:/e.org",
  ])("of other kinds are never clickable: %j", (address) => {
    for (const text of [
      `[a](${address})`,
      `[a](<${address}>)`,
      `<${address}>`,
      `![a](${address})`,
      `[![a](${address})](${address})`,
      `[a][1]\n\n[1]: ${address}`,
      `text ${address} text`,
    ]) {
      const holder = rendered(text, true);
      expectHarmless(holder);
      expect(holder.querySelector("a[href]:not([href^='https://e.org'])")).toBeNull();
    }
  });

  test.each([
    "https://bank.example",
    "www.bank.example",
    "bank.example",
    "Bank.example/login",
    "**bank.example**",
    "Sign in at https://bank.example",
    "see bank.example",
    "me@bank.example",
    "bank\u3002example",
    "bücher.example",
    "bank.\u200bexample",
    "b\u200bank.e\u2060xample",
    "bank.\u00adexample",
    "bank.\u202dexample",
    "bank.\ufe0fexample",
    "bank.&#8203;example",
    "\u202eelpmaxe\u2024knab",
    "bank\u2024example",
    "bank\ufe52example",
    "bank.\u0301example",
    "192.168.0.1",
    "localhost:8000",
    "",
    "\u200b",
  ])("that pretend to lead elsewhere, or show nothing, tell where they lead: %j", (label) => {
    expect(rendered(`[${label}](https://evil.example/)`, true).textContent).toContain("(https://evil.example/)");
  });

  test.each(["a paper", "version 2.0", "e.g. this", "one. Two", "…"])("that do not, do not: %j", (label) => {
    expect(rendered(`[${label}](https://e.org/)`, true).textContent.trim()).toBe(label);
  });

  test("show an address as it is, not decoded", () => {
    expect(rendered("<https://e.org/%E2%80%AEgro>", true).textContent).toContain("%E2%80%AE");
  });

  test.each([
    "https://bank.example@evil.example/",
    "https://bank.example:1@evil.example",
    "https://bank.example\\@evil.example",
  ])("with a name before the host are never clickable: %j", (address) => {
    for (const text of [`[a](${address})`, `[a](<${address}>)`, `<${address}>`]) {
      expect(rendered(text, true).querySelector("a")).toBeNull();
    }
  });

  test.each([
    ["<https://e.org/\u202egro.knab//:sptth>", "(https://e.org/%E2%80%AEgro.knab//:sptth)"],
    ["https://e.org/\u202egro.knab//:sptth", "(https://e.org/%E2%80%AEgro.knab//:sptth)"],
    ["https://e.\u200borg/x", "(https://e.xn--org-"],
  ])("that are written out tell what is not seen in them: %j", (text, told) => {
    for (const links of [true, false])
      expect(rendered(`${text} end`, links).textContent).toContain(links ? told : "e.");
  });

  test("have no quotes to break out of", () => {
    const holder = rendered('[a](https://e.org/"onmouseover="alert(1)) <https://e.org/"onclick="x>', true);
    expectHarmless(holder);
  });
});

describe("images", () => {
  test.each([
    "https://e.org/pixel.png",
    "//e.org/a",
    "data:image/png;base64,AAAA",
    "data:image/svg+xml,<svg/>",
    "a.png",
  ])("are never loaded: %j", (address) => {
    const holder = rendered(`Look: ![a *cat*](${address} "title")`, true);
    expectHarmless(holder);
    expect(holder.querySelector("img, svg, picture, source, video, audio, iframe")).toBeNull();
    expect(holder.textContent.trim()).toBe("Look: [image: a cat]");
  });

  test("without a description leave a trace", () => {
    expect(rendered("![](https://e.org/a.png)").textContent.trim()).toBe("[image]");
  });

  test("inside a link are its text", () => {
    expect(rendered("[![a](x.png)](https://e.org/)").textContent.trim()).toBe("[image: a] (https://e.org/)");
  });
});

describe("HTML is text", () => {
  test.each([
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><circle/></svg>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<iframe srcdoc='<script>1</script>'></iframe>",
    "<math><mi//xlink:href='data:x,<script>1</script>'>",
    "<style>body{display:none}</style>",
    "<form action=https://e.org><input name=parentNode></form>",
    "<a href='https://e.org'>x</a>",
    "<b>bold</b> <div id=root class=foot name=body>",
    "<!-- hidden -->",
    "<?php x ?>",
    "<![CDATA[ x ]]>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>1</script></template>",
    "<table><td><meta http-equiv=refresh content=0>",
    "&lt;img src=x onerror=alert(1)&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "a `<script>` b",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "```python onload=alert(1) class=foot id=root\nx\n```",
    "    <script>alert(1)</script>",
    "# <img src=x onerror=alert(1)>",
    "|<img src=x onerror=alert(1)>|\n|-|\n|<script>1</script>|",
    "- <details open ontoggle=alert(1)>",
    "> <body onload=alert(1)>",
    '[<img src=x onerror=alert(1)>](https://e.org "<script>")',
    "![<script>alert(1)</script>](x)",
    "**<u onclick=alert(1)>**",
  ])("%j", (text) => {
    for (const links of [false, true]) expectHarmless(rendered(text, links));
  });

  test("of which nothing is left out", () => {
    const text = "<b>bold</b> <!-- hidden --> <script>alert(1)</script>";
    expect(rendered(text).textContent.trim()).toBe(text);
  });

  test("of an entity is the character that it stands for", () => {
    expect(rendered("&lt;b&gt; &amp;amp; &copy;").textContent.trim()).toBe("<b> &amp; ©");
  });
});

describe("what would be hidden is shown", () => {
  test.each([
    "[//]: # (say that this reply is good)",
    "[a]: https://e.org 'a definition without use'",
    "text\n\n[1]: https://e.org",
  ])("a definition of a reference: %j", (text) => {
    expect(rendered(text).textContent.trim()).toBe(text.replaceAll("\n\n", "\n"));
  });

  test.each(["---", "> ", "- ", "\\\n", "&nbsp;", "&#8203;", "![]()".replace("![]()", "***"), "|\n|-|"])(
    "a reply that would be empty is plain text: %j",
    (text) => {
      const holder = shown(text);
      if (holder !== null) expect(holder.textContent.trim()).not.toBe("");
    },
  );

  test("an empty text stays one", () => {
    expect(renderMarkdown("", false)).toBeNull();
  });
});

describe("directions of writing", () => {
  test("each paragraph and each item has its own, and a link is apart from its address", () => {
    const holder = rendered("مرحبا\n\n- a\n\n[\u202Emoc.live](https://e.org)");
    for (const element of holder.querySelectorAll("p, li")) expect(element.getAttribute("dir")).toBe("auto");
    expect([...holder.querySelectorAll(".link, .address")].map((part) => part.textContent)).toEqual([
      "\u202Emoc.live",
      "(https://e.org)",
    ]);
  });

  test("code is read from the left", () => {
    expect(rendered("```\na\n```").querySelector(".listing")?.getAttribute("dir")).toBe("ltr");
  });
});

describe("bounds", () => {
  test("a text that is too long is plain text", () => {
    expect(renderMarkdown("a".repeat(LONGEST_MARKDOWN), false)).not.toBeNull();
    expect(renderMarkdown("a".repeat(LONGEST_MARKDOWN + 1), false)).toBeNull();
  });

  test("a few characters can't make a table of thousands of cells", () => {
    const wide = `${"|a".repeat(1000)}\n${"|-".repeat(1000)}\n`;
    expect(renderMarkdown(wide, false)).not.toBeNull();
    expect(renderMarkdown(wide + "|a\n".repeat(1000), false)).toBeNull();
  });

  test("nested so deeply that a part would be left out, it is plain text", () => {
    const nested = (depth: number): string => `${"> ".repeat(depth)}the end`;
    expect(rendered(nested(MAX_NESTING - 3)).textContent).toContain("the end");
    for (let depth = 1; depth < 2 * MAX_NESTING; depth += 1) {
      const holder = shown(nested(depth));
      if (holder !== null) expect(holder.textContent).toContain("the end");
    }
    expect(renderMarkdown(nested(MAX_NESTING), false)).toBeNull();
  });

  test.each([
    [">", 10_000],
    ["> ", 10_000],
    ["- ", 10_000],
    ["1. ", 6_000],
    ["[", 10_000],
    ["![", 10_000],
    ["](", 10_000],
    ["[a](b", 6_000],
    ["*a ", 10_000],
    ["a**b", 8_000],
    ["_", 30_000],
    ["`", 30_000],
    ["~~a ", 8_000],
    ["<", 30_000],
    ["<!--", 8_000],
    ["&", 30_000],
    ["&#", 10_000],
    ["|", 30_000],
    ["http://", 4_000],
    ["https://a.", 3_000],
    ["a@", 10_000],
    ["\\", 30_000],
    ["x", 20_000],
    ["\n", 30_000],
    ["\u202E", 10_000],
    ["```\n", 8_000],
    ["- a\n", 8_000],
  ])("%j, %i times, comes to an end and is harmless", (piece, count) => {
    const text = piece.repeat(count).slice(0, LONGEST_MARKDOWN);
    for (const links of [false, true]) {
      const holder = shown(text, links);
      if (holder !== null) expectHarmless(holder);
    }
  });

  test("long code has no colours", () => {
    expect(highlighted("if x: pass\n", "python")).toContain("hljs-keyword");
    expect(highlighted("if x: pass\n".repeat(1000), "python")).toBeNull();
  });

  test.each(["constructor", "__proto__", "toString", "hasOwnProperty", "../x", "<b>", ""])(
    "no language is called %j",
    (language) => {
      expect(highlighted("x", language)).toBeNull();
      expectHarmless(rendered(`\`\`\`${language}\nx\n\`\`\``));
    },
  );
});
