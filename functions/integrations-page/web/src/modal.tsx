// What all dialogs share.
import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";

interface Props {
  title: ComponentChildren;
  /** Called when the user wants to leave. Not called while busy. */
  onClose: () => void;
  busy?: boolean;
  children: ComponentChildren;
}

/**
 * Modal is a dialog for as long as it is rendered. The focus goes into it, and back to where it
 * was.
 */
export function Modal({ title, onClose, busy = false, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useLayoutEffect(() => {
    const d = dialog.current!;
    d.showModal();
    d.querySelector<HTMLElement>("[autofocus]")?.focus();
    return () => d.close(); // Gives the focus back, which removing the element would not.
  }, []);

  // Closing is this component's parent's to do: a dialog that closed itself would still be
  // rendered.
  function cancel(event: Event) {
    event.preventDefault();
    if (!busy) onClose();
  }
  function keyDown(event: KeyboardEvent) {
    if (event.key === "Escape") cancel(event); // The browser lets a second Escape pass its cancel event by.
  }
  return (
    <dialog ref={dialog} aria-labelledby={id} onCancel={cancel} onKeyDown={keyDown}>
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  );
}
