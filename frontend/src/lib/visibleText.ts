const VISIBLE = /[\p{L}\p{N}\p{P}\p{S}\p{Cn}]/u;
const FILLER = /[\u2800\p{Default_Ignorable_Code_Point}]/u;

/** Whether a text shows nothing, as the server decides it (records/visible_text.py): spaces, joiners and fillers are all that it has. */
export function isBlank(text: string): boolean {
  return !Array.from(text).some((character) => VISIBLE.test(character) && !FILLER.test(character));
}
