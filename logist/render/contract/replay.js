// Frames that are replayed one right after the other, without the browser's having a frame of its own for each of them.

// What the browser tells in its own frames. Of frames that it had none for, that comes too late.
const TOLD_IN_FRAMES = [
  "scroll", "scrollend", "scrollsnapchange", "scrollsnapchanging", "resize", "contentvisibilityautostatechange",
];
let ranAhead = false; // of the browser's last frame, by more than one of ours
let toldTooLate = false;
const noteLate = (event) => {
  if (ranAhead && event.isTrusted) toldTooLate = true;
};
for (const name of TOLD_IN_FRAMES) native.listen.call(window, name, noteLate, true);

const hasAnimations = () =>
  getAnimations.call(document).length > 0 || smilElements.some(({ length }) => length > 0);
// Whether the page would be the same if the browser had had its frame now.
const needsNoFrame = () =>
  !toldTooLate && isAllDrawn() && !observers.anySizes() && frames.length === 0 && roots.size === 0 && !hasAnimations();
