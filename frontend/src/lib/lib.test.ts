import { describe, expect, test } from "vitest";
import { pieces } from "./code";
import { isPhone } from "./mobile";
import { fillPane, sanitise } from "./sanitise";
import { uuid } from "./uuid";

describe("the requester's HTML", () => {
  test.each([
    ["<p onclick='x()'>a</p>", "<p>a</p>"],
    ["<script>x()</script><p>a</p>", "<p>a</p>"],
    ["<img src=x onerror=x()>", '<img src="x">'],
    ["<style>* { display: none }</style><p>a</p>", "<p>a</p>"],
    ["<form action=x><input><button>b</button></form>", "b"],
    ["<iframe src=x></iframe>a", "a"],
    ['<p id="root">a</p>', "<p>a</p>"],
    ["<p style='color:red'>a</p>", '<p style="color:red">a</p>'],
  ])("%s", (html, clean) => {
    expect(sanitise(html)).toBe(clean);
  });

  test("a script address is no link", () => {
    expect(sanitise('<a href="javascript:x()">a</a>')).not.toContain("javascript");
  });

  test("links open in a new tab that knows nothing of this one", () => {
    expect(sanitise('<a href="https://example.org/">a</a>')).toBe(
      '<a href="https://example.org/" target="_blank" rel="noopener noreferrer">a</a>',
    );
  });
});

describe("the persona in the side pane", () => {
  const html = "<p>Play this:</p><p class='persona'>[persona_string_1]</p><ul><li>[persona_string_2]</li></ul>";

  test("is filled in as text, never as HTML", () => {
    expect(fillPane(html, ["I <b>cook</b>.", '<img src=x onerror="x()">'])).toBe(
      '<p>Play this:</p><p class="persona">I &lt;b&gt;cook&lt;/b&gt;.</p><ul><li>&lt;img src=x onerror="x()"&gt;</li></ul>',
    );
  });

  test("leaves no empty boxes where there is none", () => {
    expect(fillPane(html, [])).toBe("<p>Play this:</p>");
    expect(fillPane(html, ["I cook."])).toBe('<p>Play this:</p><p class="persona">I cook.</p>');
  });

  test("is removed from the middle of a sentence without taking the sentence along", () => {
    expect(fillPane("<p>You are: [persona_string_1] Enjoy.</p>", [])).toBe("<p>You are:  Enjoy.</p>");
  });

  test("a persona line that looks like a place is not filled in again", () => {
    expect(fillPane("<p>[persona_string_1]</p>", ["[persona_string_2]", "no"])).toBe("<p>[persona_string_2]</p>");
  });
});

describe("code in a text", () => {
  test("is found between fences, and nothing is lost", () => {
    const text = "Like this:\n```python\nprint('<b>')\n```\nDone.\n```\nx\n```";
    const found = pieces(text);
    expect(found.map((piece) => piece.code)).toEqual([false, true, false, true]);
    expect(found.map((piece) => piece.text).join("")).toBe(text);
  });

  test.each(["", "plain", "``` not closed\nx", "a ```inline``` b"])("%j is plain", (text) => {
    expect(pieces(text).some((piece) => piece.code)).toBe(false);
    expect(
      pieces(text)
        .map((piece) => piece.text)
        .join(""),
    ).toBe(text);
  });
});

test.each([
  ["Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile/15E148", undefined, true],
  ["Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/130 Mobile Safari/537.36", undefined, true],
  ["Mozilla/5.0 (Linux; Android 14; SM-X710) Chrome/130 Safari/537.36", undefined, false], // a tablet
  ["Mozilla/5.0 (X11; Linux x86_64) Chrome/130 Safari/537.36", undefined, false],
  ["Mozilla/5.0 (X11; Linux x86_64) Chrome/130 Safari/537.36", { mobile: true }, true],
])("%s with hints %j: phone is %j", (userAgent, userAgentData, phone) => {
  expect(isPhone({ userAgent, userAgentData } as unknown as Navigator)).toBe(phone);
});

test("ids are UUIDs, each another one", () => {
  const ids = Array.from({ length: 100 }, uuid);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(new Set(ids).size).toBe(100);
});
