import { Component, type ReactNode } from "react";
import { Alert } from "../components/Alert";

/** Keeps the rest of the page when a part of it fails: an answer of the server may lack what a newer one has. */
export class Boundary extends Component<{ children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override render(): ReactNode {
    if (!this.state.failed) return this.props.children;
    return (
      <Alert text="This part of the page can't be shown. Reload the page; if it happens again, please report it." />
    );
  }
}
