// The page contract puts a page's time, chance and waiting into our hands. Its parts are one function of its settings,
// {seed, fps: [numerator, denominator], props?: JSON}. Time stands still until `step` moves it.
//
// Here: bounds, and what is taken from the browser at the start, because the page may put its own in place later.

const EPOCH = Date.UTC(2024, 0, 1);
const MAX_TIMERS_A_FRAME = 100_000;
const MAX_ROUNDS = 10_000;
const MAX_KEPT = 64; // pictures that single elements showed once
// A timer that is due at the frame's time must not miss it by the last digit of a sum. In milliseconds.
const TOLERANCE = 1e-6;
// Files round the time of a frame, WebM to a millisecond; that much later it is the same frame in all of them.
const INTO_THE_FRAME = 0.001;
// What waits for the page to be stable may itself wait for a timer; after this long it gets one. In milliseconds.
const PATIENCE = 20;
// As long as a document is given to show whether it is drawn at all. In milliseconds.
const PATIENCE_FOR_A_FRAME = 1_000;
const PATIENCE_FOR_A_SCRIPT = 2_000;
// Tasks between the coming of a module and its being run, or its asking for another one.
const HOPS_OF_AN_IMPORT = 16;

const [FPS_NUMERATOR, FPS_DENOMINATOR] = settings.fps;
const native = {
  setTimeout: window.setTimeout.bind(window),
  clearTimeout: window.clearTimeout.bind(window),
  requestAnimationFrame: window.requestAnimationFrame.bind(window),
  listen: EventTarget.prototype.addEventListener,
  dispatch: EventTarget.prototype.dispatchEvent,
  post: MessagePort.prototype.postMessage,
  now: performance.now.bind(performance),
  decode: HTMLImageElement.prototype.decode,
  animate: Element.prototype.animate,
  draw: OffscreenCanvasRenderingContext2D.prototype.drawImage,
  report: window.reportError.bind(window),
  complain: console.error.bind(console),
  createObjectURL: URL.createObjectURL,
  revokeObjectURL: URL.revokeObjectURL,
  Blob,
  Date,
  Image,
};
const observers = window.__LOGIST_OBSERVERS__;

let now = 0; // milliseconds since the page began, as the page sees it
let wholeMilliseconds = 0; // as a Date sees it at a frame's time
let frame = -1;
let stepped = false; // whether the first frame has begun
let patience = 30_000; // how long the page may take, in real milliseconds
let activity = 0; // counts what the page has set going

const own = (target, name, value) =>
  Object.defineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });
const replace = (target, name, make) => {
  const descriptor = Object.getOwnPropertyDescriptor(target, name);
  if (!descriptor) return;
  Object.defineProperty(target, name, { ...descriptor, value: make(descriptor.value) });
};
const replaceAccessor = (target, name, make) => {
  const descriptor = Object.getOwnPropertyDescriptor(target, name);
  if (!descriptor) return undefined;
  Object.defineProperty(target, name, { ...descriptor, ...make(descriptor) });
  return descriptor;
};
const call = (callback, self, ...values) => {
  activity += 1;
  try {
    callback.apply(self, values);
  } catch (error) {
    native.report(error); // the page's own error, seen as one: not ours to stop for
  }
};
