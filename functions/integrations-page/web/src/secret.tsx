// The input of a secret: one masked line, which becomes several, masked as well, when what is
// pasted has line breaks.
import { useLayoutEffect, useRef, useState } from "preact/hooks";

type Input = HTMLInputElement | HTMLTextAreaElement;

/** What was pasted into an input, line ends and all: a text area makes each of them a line feed. */
const pasted = new WeakMap<Input, string>();

const lines = (text: string): string => text.replace(/\r\n?/g, "\n");

/** readSecret is what was typed or pasted, byte for byte. */
export function readSecret(input: Input): string {
  const exact = pasted.get(input);
  return exact !== undefined && lines(exact) === input.value ? exact : input.value;
}

interface Props {
  id: string;
  name: string;
  /** What it is called in the button beside it. */
  label: string;
  /** Whether the label is its name, because there is no other one. */
  named?: boolean;
  required?: boolean;
  "aria-invalid": boolean;
  "aria-describedby"?: string;
}

export function SecretInput({ label, named, ...props }: Props) {
  const [several, setSeveral] = useState<{ text: string } | null>(null);
  const [shows, setShows] = useState(false);
  const area = useRef<HTMLTextAreaElement>(null);

  useLayoutEffect(() => {
    if (several === null) return;
    const a = area.current!;
    a.value = several.text;
    pasted.set(a, several.text);
    a.focus();
    a.dispatchEvent(new Event("input", { bubbles: true }));
  }, [several]);

  /**
   * take takes over what has line breaks. What has none, and what comes later, is the browser's own
   * affair.
   */
  function take(event: Event & { currentTarget: Input }, data: DataTransfer | null) {
    const text = data?.getData("text/plain") ?? "";
    const input = event.currentTarget;
    const all = input.selectionStart === 0 && input.selectionEnd === input.value.length;
    if (!/[\r\n]/.test(text) || (several !== null && !all)) return;
    event.preventDefault();
    const whole = all ? text : input.value.slice(0, input.selectionStart ?? 0) + text + input.value.slice(input.selectionEnd ?? 0);
    setSeveral({ text: whole });
  }

  // A one-time code is what no password manager keeps, and what no browser fills with the user's
  // own password.
  const common = {
    ...props,
    autocomplete: "one-time-code",
    autocapitalize: "none",
    spellcheck: false,
    translate: false,
    ...(named && { "aria-label": label, placeholder: "Value" }),
    onPaste: (e: ClipboardEvent & { currentTarget: Input }) => take(e, e.clipboardData),
    onDrop: (e: DragEvent & { currentTarget: Input }) => take(e, e.dataTransfer),
  } as const;
  return (
    <div class="secret">
      {several === null ? (
        shows ? (
          <input {...common} key="input" type="text" />
        ) : (
          <input {...common} key="input" type="password" />
        )
      ) : (
        <textarea {...common} ref={area} rows={6} class={shows ? "" : "masked"} />
      )}
      <button type="button" aria-label={`${shows ? "Hide" : "Show"} ${label}`} onClick={() => setShows(!shows)}>
        {shows ? "Hide" : "Show"}
      </button>
    </div>
  );
}
