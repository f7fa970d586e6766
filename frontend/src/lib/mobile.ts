/** Whether the page is shown on a phone. Tablets are not: there is room enough on them. */
export function isPhone(navigator: Navigator): boolean {
  const hints = (navigator as Navigator & { userAgentData?: { mobile?: boolean } }).userAgentData;
  if (hints?.mobile === true) return true;
  return /Android.+Mobile|iPhone|iPod|IEMobile|Windows Phone|BlackBerry|Opera Mini|webOS/i.test(navigator.userAgent);
}
