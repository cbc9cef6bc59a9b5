import { Component, type ComponentChildren } from "preact";
import { Support } from "./brand";

/**
 * Boundary stands around the whole page: a fault in it is said, with what to do, instead of leaving
 * nothing.
 */
export class Boundary extends Component<{ children: ComponentChildren }, { failed: boolean }> {
  override state = { failed: false };
  static override getDerivedStateFromError = () => ({ failed: true });
  render() {
    if (!this.state.failed) return this.props.children;
    return (
      <main class="front">
        <h1>This page has stopped</h1>
        <p role="alert">
          What is stored is safe. Reload the page; if that does not help, tell <Support>the platform’s support</Support>.
        </p>
        <button class="primary" onClick={() => location.reload()}>
          Reload
        </button>
      </main>
    );
  }
}
