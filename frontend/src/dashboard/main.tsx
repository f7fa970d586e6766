import { createRoot } from "react-dom/client";
import { tolerateForeignChanges } from "../lib/foreignDom";
import "../styles.css";
import { Api } from "./api";
import { Dashboard } from "./Dashboard";
import "./dashboard.css";

tolerateForeignChanges(Node.prototype);

const root = document.getElementById("root");
if (root === null) throw new Error("dashboard.html has no element #root");
createRoot(root).render(<Dashboard api={new Api(new URL("./", document.baseURI).href)} />);
