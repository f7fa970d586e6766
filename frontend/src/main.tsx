import { createRoot } from "react-dom/client";
import { App } from "./App";
import { tolerateForeignChanges } from "./lib/foreignDom";
import { isPhone } from "./lib/mobile";
import { RouterHttp } from "./mephisto/http";
import { isPreview, readProvider } from "./mephisto/provider";
import { RouterSocket, socketAddress } from "./mephisto/socket";
import { Session, type Channel } from "./session";
import { Memory } from "./state/memory";
import "./styles.css";
import "./comparison.css";

tolerateForeignChanges(Node.prototype);

function storage(kind: "sessionStorage" | "localStorage"): Storage | null {
  try {
    return window[kind];
  } catch {
    return null; // forbidden by the browser's settings
  }
}

const provider = readProvider(window as unknown as Parameters<typeof readProvider>[0], {
  search: location.search,
  path: location.pathname,
  storage: storage("localStorage"),
});
// Two studies behind one reverse proxy share an origin, and so its storage; their paths differ.
const here = new URL("./", document.baseURI).pathname;

const session = new Session({
  http: new RouterHttp(document.baseURI, provider),
  makeSocket: (agentId, listener) => new RouterSocket(socketAddress(document.baseURI), agentId, listener),
  memory: new Memory(
    storage("sessionStorage"),
    // What a browser is given later is no part of it: it would make another work of the same one.
    here + (provider.isPanel ? location.search : JSON.stringify(provider.registration)),
  ),
  makeChannel: (name) =>
    typeof BroadcastChannel === "undefined" ? null : (new BroadcastChannel(name) as unknown as Channel),
  exclusively: (name, action) =>
    "locks" in navigator ? navigator.locks.request(`model-chat:${here}${name}`, action) : action(),
  preview: isPreview(provider),
  phone: isPhone(navigator),
  hasPlatform: provider.hasPlatform,
  isPanel: provider.isPanel,
  handInToProvider: provider.handIn,
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) session.wake();
});
window.addEventListener("online", session.wake);
window.addEventListener("offline", session.networkLost);
window.addEventListener("pageshow", (event) => {
  if (event.persisted) session.wake();
});
window.addEventListener("error", (event) => {
  session.reportError(event.message);
});

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no element #root");
createRoot(root).render(<App session={session} />);
void session.start();
