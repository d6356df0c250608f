// The way in: what we call.

// The browser's own frames before the first of ours: an animation must not be over before it is seen.
const watchTheStart = () => {
  if (stepped) return;
  findAnimations();
  placeSvgs();
  native.requestAnimationFrame(watchTheStart);
};
native.requestAnimationFrame(watchTheStart);

const loaded = new Promise((resolve) => {
  if (document.readyState === "complete") resolve();
  else native.listen.call(window, "load", () => hop().then(resolve), { once: true });
});
const finish = async () => {
  do {
    await settle();
    watchLoads();
    await idle();
  } while (pending.size > 0);
};
// A frame of the browser's own, in which it looks at sizes. A document that is in no layout gets none; whether it does
// is found out once.
let isShown = true;
const nativeFrame = async () => {
  const came = new Promise((resolve) => native.requestAnimationFrame(resolve)).then(() => (isShown = true));
  if (!isShown) return;
  isShown = false;
  await Promise.race([came, pause(PATIENCE_FOR_A_FRAME)]);
  await hop();
};
const settleSizes = async () => {
  if (!observers.anySizes()) return;
  await observers.tellSizes(async () => {
    await finish();
    findAnimations();
    await nativeFrame();
  });
};
const comeToRest = async () => {
  await finish();
  findAnimations();
  await settleSizes();
};
const getReady = async () => {
  await loaded;
  findRoots(document);
  loadFonts();
  keepImagesOfStyles();
  await finish();
  findAnimations();
  placeSvgs();
  await placeMedia(true);
  await decodeImages();
  await comeToRest();
};
const advance = async (capture, milliseconds) => {
  await runTimers(milliseconds);
  now = milliseconds;
  wholeMilliseconds = agreedWhole(frame, milliseconds);
  await moveAnimations();
  placeSvgs();
  await placeMedia(capture);
  window.__HELIOS_VIRTUAL_TIME__ = now;
  seekHelios(false);
  seekTimeline(false);
  await runVideoCallbacks();
  await runCallbacks();
  seekHelios(true);
  seekTimeline(true);
  await runIdleCallbacks();
  await comeToRest();
  if (isToBeStable()) {
    await stable();
    await comeToRest();
  }
  await compose(capture);
};
// What a picture needs beyond a page that has come to rest.
const compose = async (capture) => {
  placeSvgs();
  await placeMedia(capture);
  if (!capture) return;
  await coverVideos();
  keepImagesOfElements();
  await idle();
  await decodeImages();
};

// What the page has loaded by itself has come: scripts are to have run, and styles are to be seen.
const addressOf = (element) => element.src || element.href;
const takeIn = async (arrived, capture) => {
  const addresses = new Set(arrived.map(([address]) => address));
  const elements = [...document.scripts, ...links].filter((element) => addresses.has(addressOf(element)));
  const loading = elements.filter((element) => !loadedElements.has(element));
  const loads = loading.map((element) =>
    new Promise((resolve) => {
      for (const name of ["load", "error"]) native.listen.call(element, name, resolve, { once: true });
    }));
  // One that was put there as text is never run, and not waited for without end.
  if (loads.length > 0) await Promise.race([Promise.all(loads), pause(PATIENCE_FOR_A_SCRIPT)]);
  for (let hops = 0; hops < HOPS_OF_AN_IMPORT; hops += 1) await hop();
  if (arrived.some(([, kind]) => kind === "Stylesheet")) {
    keepImagesOfStyles();
    loadFonts();
  }
  await comeToRest();
  await compose(capture);
};

let frameDrawn = Promise.resolve();
const enterFrame = async (number, milliseconds, capture) => {
  stepped = true;
  frame = number;
  await within(advance(capture, agreed(number, milliseconds)), patience, () =>
    `frame ${number} is not done: the page still waits for ${described()}`);
};
// Whether the page may go on while the frame is shown; null: it is not what it would have been.
const shownNext = () => {
  // The hop: once the callbacks of the browser's frame are done, the page is drawn; and only then comes a task.
  frameDrawn = new Promise((resolve) => native.requestAnimationFrame(() => hop().then(resolve)));
  return toldTooLate ? null : isAllDrawn();
};

own(window, "__LOGIST_PAGE__", Object.freeze({
  async ready(timeout) {
    patience = timeout * 0.9; // who waits for us is to get our word of what is missing, not lose patience first
    await within(getReady(), patience, () =>
      document.readyState === "complete" ? `the page still waits for ${described()}` : "the page has not loaded");
  },
  async step(number, milliseconds, capture) {
    ranAhead = false;
    await enterFrame(number, milliseconds, capture);
    return shownNext();
  },
  // The frame `number` and those after it, at these times, as long as the browser needs no frame in between and not much
  // longer than `most` real milliseconds: how many there were, and what `step` gives for the last of them.
  async replay(number, times, most) {
    const began = native.now();
    let made = 0;
    ranAhead = false;
    do {
      await enterFrame(number + made, times[made], false);
      made += 1;
      ranAhead = made < times.length && needsNoFrame() && native.now() - began < most;
    } while (ranAhead);
    ranAhead = made > 1;
    return [made, shownNext()];
  },
  drawn: () => frameDrawn,
  // `arrived`: pairs of an address and what it is, as the protocol says it.
  async arrived(arrived, capture) {
    await within(takeIn(arrived, capture), patience, () =>
      `frame ${frame} is not done: the page still waits for ${described()}`);
  },
  async canvas(selector) {
    const found = findCanvas(selector ?? "canvas");
    if (found === null) throw new Error(selector ? `no element matches ${selector}` : "the page has no canvas");
    if (!(found instanceof HTMLCanvasElement)) throw new Error(`${selector} is not a canvas`);
    return toDataURL.call(found, "image/png").slice("data:image/png;base64,".length);
  },
  tracks() {
    return mediaElements().filter(isHeard).flatMap(tracksOf);
  },
}));
