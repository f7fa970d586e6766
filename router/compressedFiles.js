/**
 * Serves the text files of a folder compressed, to whoever accepts that; all else is left to what comes after it.
 *
 * Files are looked up by name in a list made once, so no path from outside touches the disk. They are compressed when they
 * are first asked for, in the background threads of Node.js, and again only when they have changed.
 *
 * Each compressed form has its own ETag, and `Vary: Accept-Encoding` stands on every form of these files, the plain one
 * included. A range of bytes is answered from the plain file: `Range` counts the bytes of what is sent.
 */
"use strict";

const crypto = require("crypto");
const fs = require("fs");
const path = require("path");
const { promisify } = require("util");
const zlib = require("zlib");

const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "application/javascript; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".mjs": "application/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
};
const SMALLEST = 1024; // bytes; below, compressing saves nothing
const LARGEST = 16 * 1024 * 1024;
const { BROTLI_PARAM_QUALITY: QUALITY } = zlib.constants;
/** The better one first. */
const ENCODINGS = {
  br: (content) => promisify(zlib.brotliCompress)(content, { params: { [QUALITY]: 9 } }),
  gzip: (content) => promisify(zlib.gzip)(content, { level: 9 }),
};

/** Express middleware for the files that are in `folder` now. */
function compressedFiles(folder) {
  const files = fs.existsSync(folder) ? filesIn(folder) : new Map();
  return (request, response, next) => {
    const file = files.get(request.path.endsWith("/") ? `${request.path}index.html` : request.path);
    if (file === undefined || (request.method !== "GET" && request.method !== "HEAD")) return next();
    response.vary("Accept-Encoding");
    const encoding = encodingFor(request);
    if (encoding === null) return next();
    return contentOf(file, encoding).then((content) => {
      if (content === null || response.headersSent) return next();
      response.set("ETag", content.etag);
      if (request.fresh) return response.status(304).end();
      const { length } = content.body;
      response.set({ "Content-Type": file.type, "Content-Encoding": encoding, "Content-Length": String(length) });
      return response.end(request.method === "HEAD" ? undefined : content.body);
    }, next);
  };
}

function encodingFor(request) {
  if (request.headers.range !== undefined) return null;
  return Object.keys(ENCODINGS).find((name) => request.acceptsEncodings(name)) ?? null;
}

/** The text files below a folder by their address, without those whose name begins with a dot. */
function filesIn(folder, address = "/", files = new Map()) {
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    if (entry.name.startsWith(".")) continue;
    const name = path.join(folder, entry.name);
    const type = TYPES[path.extname(entry.name).toLowerCase()];
    if (entry.isDirectory()) filesIn(name, `${address}${entry.name}/`, files);
    else if (entry.isFile() && type) files.set(address + encodeURIComponent(entry.name), { name, type, forms: new Map() });
  }
  return files;
}

/** A file in an encoding: its bytes and their ETag; null where it is too small, too large, or gone. */
async function contentOf(file, encoding) {
  const stat = await fs.promises.stat(file.name).catch(() => null);
  if (stat === null || stat.size < SMALLEST || stat.size > LARGEST) return null;
  const version = `${stat.mtimeMs} ${stat.size}`;
  let form = file.forms.get(encoding);
  if (form?.version !== version) {
    form = { version, content: compress(file.name, encoding) };
    file.forms.set(encoding, form);
    form.content.catch(() => file.forms.delete(encoding)); // the next request tries again
  }
  return form.content;
}

async function compress(name, encoding) {
  const body = await ENCODINGS[encoding](await fs.promises.readFile(name));
  const hash = crypto.createHash("sha256").update(body).digest("base64url").slice(0, 27);
  return { body, etag: `"${hash}"` };
}

module.exports = { compressedFiles };
