import { Component, type ComponentChildren, type FunctionComponent, h } from "preact";

/**
 * memo draws a component anew only if its properties differ. Preact has it in preact/compat alone,
 * with all of React around it.
 */
export function memo<P extends object>(of: FunctionComponent<P>, same: (before: P, after: P) => boolean): FunctionComponent<P> {
  class Memo extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      return !same(this.props as P, next);
    }
    render(): ComponentChildren {
      return h(of, this.props as P);
    }
  }
  return Memo as unknown as FunctionComponent<P>;
}
