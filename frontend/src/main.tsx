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

const provider = readProvider(window as unknown as Parameters<typeof readProvider>[0]);

function storage(): Storage | null {
  try {
    return window.sessionStorage;
  } catch {
    return null; // forbidden by the browser's settings
  }
}

const session = new Session({
  http: new RouterHttp(document.baseURI, provider),
  makeSocket: (agentId, listener) => new RouterSocket(socketAddress(document.baseURI), agentId, listener),
  memory: new Memory(storage(), JSON.stringify(provider.registration)),
  makeChannel: (name) =>
    typeof BroadcastChannel === "undefined" ? null : (new BroadcastChannel(name) as unknown as Channel),
  exclusively: (name, action) =>
    "locks" in navigator ? navigator.locks.request(`model-chat:${name}`, action) : action(),
  preview: isPreview(provider),
  phone: isPhone(navigator),
  hasPlatform: provider.hasPlatform,
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
