import {
  answersMissing,
  choicesMissing,
  lengthOf,
  onboardingMissing,
  sendingBlock,
  type Block,
  type State,
} from "../state/conversation";
import { texts } from "../texts";

/** Why sending is not possible just now, in words; empty when it is, or when the page shows it anyway. */
export function reasonText(state: State): string {
  const block = sendingBlock(state);
  switch (block) {
    case null:
      return "";
    case "too_long":
      return texts.block.too_long(lengthOf(state.draft.text) - state.rules.maxMessageLength);
    case "rating_missing":
      return texts.block.rating_missing(state.draft.ratings.filter((rating) => rating === null).length);
    case "choices_missing":
      return texts.block.choices_missing(choicesMissing(state));
    case "answers_missing":
      return texts.block.answers_missing(answersMissing(state));
    case "onboarding_missing":
      return texts.block.onboarding_missing(onboardingMissing(state));
    default:
      return texts.block[block];
  }
}

/** What became of the last thing sent, when it was not taken; null otherwise. */
export function noticeText(state: State): string | null {
  if (state.notice === null) return null;
  if (state.notice.kind === "overtaken") return texts.notice.overtaken;
  return state.notice.reason || texts.notice.refusedFallback;
}

/** Where something has to be done after the server has refused what was sent; null where that is the field to write in. */
export function placeOfNotice(notice: State["notice"]): Block | null {
  if (notice?.kind !== "refused") return null;
  if (notice.code.startsWith("annotation_")) return "annotation_missing";
  if (notice.code.startsWith("answer_")) return "answers_missing";
  if (notice.code.startsWith("comparison_")) return "comparison_missing";
  return notice.code.startsWith("rating_") ? "rating_missing" : null;
}
