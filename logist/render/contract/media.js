// Videos and sounds: where they stand at a frame's time.

const nativeTime = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "currentTime");
const nativePaused = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "paused");
const nativePause = HTMLMediaElement.prototype.pause;

const records = new Map();
const videos = document.getElementsByTagName("video");
const sounds = document.getElementsByTagName("audio");
const canvases = document.getElementsByTagName("canvas");
const recordOf = (element) => {
  let record = records.get(element);
  if (!record) {
    // free: follows the page's clock · playing, stopped: what the page asked for
    record = { state: "free", since: 0, at: 0, volume: 0, asked: false, ended: false, pieces: [] };
    Object.assign(record, { native: null, shows: 0, shownAt: -1, seeks: 0 });
    Object.assign(record, { held: null, long: null, period: Infinity });
    records.set(element, record);
    if (element.preload === "none" || element instanceof HTMLVideoElement) element.preload = "auto";
    if (element.autoplay && !element.isConnected) {
      Object.assign(record, { asked: true, state: "playing", since: now });
      record.pieces.push({ offset: now, seek: 0, until: null });
    }
  }
  return record;
};
const LONGEST = 1e6; // seconds
const [SLOWEST, FASTEST] = [1 / 16, 16]; // as the browser has it
const between = (least, value, most) => Math.min(Math.max(least, value), most);
const number = (text) => {
  const value = Number.parseFloat(text ?? "");
  return Number.isFinite(value) ? value : 0;
};
// Of an attribute that may not be below nothing, in seconds.
const seconds = (element, name) => between(0, number(element.getAttribute(`data-helios-${name}`)), LONGEST);
const offsetOf = (element) => between(-LONGEST, number(element.getAttribute("data-helios-offset")), LONGEST);
// 0: it stands still, and is not heard.
const rateOf = (element) => {
  if (element.playbackRate !== 1) return Math.max(0, element.playbackRate);
  const rate = number(element.getAttribute("playbackrate"));
  return rate > 0 ? between(SLOWEST, rate, FASTEST) : 1;
};
const isTimed = (element) => element.hasAttribute("data-helios-offset") || element.hasAttribute("data-helios-seek");
// Where the element stands in its source at this time, in seconds.
const placeOf = (element, record) => {
  let place;
  if (isTimed(element) || record.state === "free") {
    place = Math.max(0, now / 1000 - offsetOf(element)) * rateOf(element) + seconds(element, "seek");
  } else {
    place = record.at + (record.state === "playing" ? ((now - record.since) / 1000) * rateOf(element) : 0);
  }
  const { duration } = element;
  if (!Number.isFinite(duration) || duration <= 0) return Math.max(0, place);
  if (element.loop && place + INTO_THE_FRAME >= duration) {
    const rest = (place + INTO_THE_FRAME) % duration;
    return Math.max(0, rest - INTO_THE_FRAME);
  }
  return Math.min(Math.max(0, place), duration);
};
const mediaElements = () => {
  if (videos.length === 0 && sounds.length === 0 && records.size === 0 && roots.size === 0) return [];
  const found = new Set([...videos, ...sounds]);
  for (const root of connectedRoots()) root.querySelectorAll("video, audio").forEach((element) => found.add(element));
  for (const [element, record] of records) if (record.asked) found.add(element);
  return [...found];
};
const isSettled = (element) =>
  element.error !== null || element.networkState === HTMLMediaElement.NETWORK_EMPTY ||
  element.networkState === HTMLMediaElement.NETWORK_NO_SOURCE ||
  (!element.seeking && element.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA);
const FIRST_SHOWS = 3;
const [SHORT_PATIENCE, MEDIUM_PATIENCE, LONG_PATIENCE] = [25, 250, 2000]; // real milliseconds
const MEDIA_EVENTS = ["seeked", "loadeddata", "canplay", "error", "emptied"];
const mediaSettled = (element) => {
  const listening = new AbortController();
  const { signal } = listening;
  const settled = new Promise((resolve) => {
    const look = () => {
      if (isSettled(element)) resolve();
    };
    for (const name of MEDIA_EVENTS) native.listen.call(element, name, look, { signal });
    for (const source of element.querySelectorAll("source")) {
      native.listen.call(source, "error", () => hop().then(look), { signal });
    }
    look();
  });
  return settled.finally(() => listening.abort());
};
// The frame that a video holds out to be drawn: its time and length in seconds; null: it can't be known.
const heldFrame = (video) => {
  if (!window.VideoFrame) return null;
  try {
    const held = new VideoFrame(video);
    held.close();
    return { time: held.timestamp / 1e6, length: (held.duration ?? 0) / 1e6 };
  } catch (error) {
    if (error.name !== "InvalidStateError" && error.name !== "SecurityError") throw error;
    return null;
  }
};
const noteHeld = (record, { time }) => {
  const apart = record.held === null ? 0 : Math.abs(time - record.held);
  if (apart > 0) record.period = Math.min(record.period, apart);
  record.held = time;
};
// A seek is said to be done a moment before the frame it found takes the place of the last one.
const frameArrived = async (video, record, before, target) => {
  const began = native.now();
  for (;;) {
    const held = heldFrame(video);
    if (held === null) return;
    noteHeld(record, held);
    const length = held.length || record.period;
    const isIt = held.time <= target && target - held.time < length && length < Infinity;
    const isLast = target + length >= video.duration;
    const isAnother = !isIt && !isLast && length < Infinity;
    if (isIt || (!isAnother && held.time !== before?.time)) return;
    // One that is surely another may be long in coming; else it may be the one, or a long one.
    const isDoubtful = isAnother && held.time !== record.long;
    const enough = isDoubtful ? (held.length > 0 ? LONG_PATIENCE : MEDIUM_PATIENCE) : SHORT_PATIENCE;
    if (native.now() - began > enough) {
      record.long = held.time;
      return;
    }
    await pause(1); // not a hop: the browser brings the frame only when the page has nothing to do
  }
};
const seekVideo = async (element, record) => {
  if (!isSettled(element)) await mediaSettled(element);
  const place = placeOf(element, record);
  if (record.native === place || element.readyState === HTMLMediaElement.HAVE_NOTHING) return;
  const { seekable } = element;
  if (place > 0 && element.duration > 0 && seekable.length > 0 && seekable.end(seekable.length - 1) === 0) {
    const name = element.currentSrc.slice(0, 200);
    throw new Error(`the video ${name} can't be moved in: its server does not answer requests for ranges of bytes`);
  }
  record.native = place;
  const latest = Number.isFinite(element.duration) ? element.duration : Infinity;
  // Never the very place where it stands: the browser would not even look.
  record.seeks += 1;
  const target = Math.min(place + INTO_THE_FRAME, latest) - (1 + (record.seeks % 2)) * 1e-5;
  const before = heldFrame(element);
  nativeTime.set.call(element, target);
  if (!isSettled(element)) await mediaSettled(element);
  await frameArrived(element, record, before, target);
};
// What the page draws from, a frame that nobody sees may still leave its trace of.
const isDrawnFrom = (element) => canvases.length > 0 || !element.isConnected || !element.checkVisibility();
const noteMedia = (element, record) => {
  if (!nativePaused.get.call(element)) nativePause.call(element);
  if (!element.muted) record.volume = Math.max(record.volume, element.volume);
  const over = record.state === "playing" && !element.loop && element.duration <= placeOf(element, record);
  if (!over || record.ended) return;
  record.ended = true;
  later(element, "ended");
};
const placeMedia = async (capture) => {
  const seeks = [];
  for (const element of mediaElements()) {
    const record = recordOf(element);
    noteMedia(element, record);
    if (!(element instanceof HTMLVideoElement) || !(capture || isDrawnFrom(element))) continue;
    if (capture && record.shows < FIRST_SHOWS && record.shownAt !== frame) {
      // What it finds while the browser is still busy with its first frame, the browser may throw away.
      Object.assign(record, { shows: record.shows + 1, shownAt: frame, native: null });
    }
    const name = element.currentSrc || element.src || "a video";
    const late = () => `the video ${name} did not reach its place at frame ${frame}`;
    seeks.push(within(seekVideo(element, record), patience, late));
  }
  if (seeks.length > 0) await Promise.all(seeks);
};
