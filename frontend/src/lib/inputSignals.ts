/**
 * Counts how a message is written (docs/authenticity.md): numbers only. It looks at the kind of each change of the field,
 * never at which key was pressed, and keeps no text but what the worker has copied within the field itself.
 */

import type { Signals } from "../state/signals";

/** What a change of the field was made by. */
const PASTED: readonly string[] = ["insertFromPaste", "insertFromPasteAsQuotation", "insertFromDrop", "insertFromYank"];
/** Keys without a letter of their own that write or delete. */
const WRITING: readonly string[] = ["Backspace", "Delete", "Dead"];

export type Counted = Pick<Signals, "pasted" | "keys">;

function lengthOf(text: string): number {
  return Array.from(text).length;
}

/** Whether a key press writes or deletes; a shortcut, an arrow key and what a screen reader is told do not. */
function writes(event: KeyboardEvent): boolean {
  const shortcut = (event.ctrlKey || event.metaKey) && !event.getModifierState("AltGraph");
  if (event.key === "Enter") return event.shiftKey && !shortcut; // alone it sends
  return !shortcut && (lengthOf(event.key) === 1 || WRITING.includes(event.key));
}

function withoutReturns(text: string): string {
  return text.replace(/\r\n?/g, "\n");
}

/** Listens to one field. What was counted since is taken with each change of its text. */
export class InputSignals {
  private pasted = 0;
  private keys: number | null = 0;
  /** Keys since the last change of the text. */
  private pressed = 0;
  private before = 0;
  private inserted: string | null = null;
  /** What the worker has last cut, copied or dragged in this field. */
  private own: string | null = null;

  constructor(private readonly field: HTMLTextAreaElement) {
    for (const type of ["cut", "copy", "dragstart"] as const) field.addEventListener(type, this.noteOwn);
    field.addEventListener("keydown", this.noteKey);
    field.addEventListener("beforeinput", this.noteInsertion);
    field.addEventListener("input", this.noteChange);
  }

  stop(): void {
    for (const type of ["cut", "copy", "dragstart"] as const) this.field.removeEventListener(type, this.noteOwn);
    this.field.removeEventListener("keydown", this.noteKey);
    this.field.removeEventListener("beforeinput", this.noteInsertion);
    this.field.removeEventListener("input", this.noteChange);
  }

  /** What was counted since this was last asked. */
  take(): Counted {
    const counted = { pasted: this.pasted, keys: this.keys };
    this.pasted = 0;
    this.keys = 0;
    return counted;
  }

  private readonly noteOwn = (): void => {
    const { value, selectionStart, selectionEnd } = this.field;
    this.own = value.slice(selectionStart, selectionEnd);
  };

  private readonly noteKey = (event: KeyboardEvent): void => {
    // While an input method composes, its keys are no letters of the message.
    if (!event.isComposing && writes(event)) this.pressed += 1;
  };

  private readonly noteInsertion = (event: InputEvent): void => {
    const { value, selectionStart, selectionEnd } = this.field;
    this.before = lengthOf(value) - lengthOf(value.slice(selectionStart, selectionEnd));
    this.inserted = event.data ?? event.dataTransfer?.getData("text/plain") ?? null;
  };

  private readonly noteChange = (event: Event): void => {
    const { inputType = "", data = null } = event as Partial<InputEvent>;
    const text = this.inserted ?? data;
    const pressed = this.pressed;
    this.inserted = null;
    this.pressed = 0;
    if (PASTED.includes(inputType)) {
      const isOwn = text !== null && this.own !== null && withoutReturns(text) === this.own;
      if (!isOwn) this.pasted += text === null ? this.growth() : lengthOf(withoutReturns(text));
    } else if (inputType.startsWith("delete") || inputType.startsWith("history")) {
      this.add(pressed);
    } else if (inputType === "insertLineBreak" || inputType === "insertParagraph") {
      this.add(pressed);
    } else if (inputType === "insertText" && pressed > 0 && (text === null || lengthOf(text) <= 1)) {
      this.add(pressed);
    } else {
      // Composed, dictated, swiped, corrected, expanded, or put in by assistive technology: keys say nothing then.
      this.keys = null;
    }
  };

  private growth(): number {
    return Math.max(0, lengthOf(this.field.value) - this.before);
  }

  private add(keys: number): void {
    if (this.keys !== null) this.keys += keys;
  }
}
