/** Which files of the page there are: only those may be asked for. */
"use strict";

const fs = require("fs");
const path = require("path");

/** The addresses of all regular files below a folder; symbolic links and hidden files are none of them. */
function addressesBelow(folder, prefix = "/") {
  const found = [];
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    if (entry.name.startsWith(".")) continue;
    if (entry.isDirectory()) found.push(...addressesBelow(path.join(folder, entry.name), `${prefix}${entry.name}/`));
    else if (entry.isFile()) found.push(prefix + entry.name);
  }
  return found;
}

/** Middleware that lets through what asks for one of the files that are below a folder when the router starts. */
function onlyFilesOf(folder) {
  const known = new Set(fs.existsSync(folder) ? addressesBelow(folder) : []);
  return (request, response, next) => {
    let asked = "";
    try {
      asked = decodeURIComponent(request.path);
    } catch {
      // no address of a file
    }
    if (known.has(asked === "/" ? "/index.html" : asked)) return next();
    return response.status(404).type("text/plain").send("Not found");
  };
}

module.exports = { onlyFilesOf };
