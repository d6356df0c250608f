// What a page asks of its videos and sounds, and what is heard of them.

let videoCallbacks = new Map();
let presented = 0;
const runVideoCallbacks = async () => {
  if (videoCallbacks.size === 0) return;
  const due = videoCallbacks;
  videoCallbacks = new Map();
  for (const [, { element, callback }] of due) {
    presented += 1;
    call(callback, element, now, {
      presentationTime: now, expectedDisplayTime: now, width: element.videoWidth, height: element.videoHeight,
      mediaTime: placeOf(element, recordOf(element)), presentedFrames: presented,
    });
    await turn();
  }
};
let videoCallbackNumber = 0;
replace(HTMLVideoElement.prototype, "requestVideoFrameCallback", () =>
  function requestVideoFrameCallback(callback) {
    recordOf(this).asked = true;
    videoCallbackNumber += 1;
    videoCallbacks.set(videoCallbackNumber, { element: this, callback });
    return videoCallbackNumber;
  });
replace(HTMLVideoElement.prototype, "cancelVideoFrameCallback", () =>
  function cancelVideoFrameCallback(number) {
    videoCallbacks.delete(number);
  });

const isPlaying = (record) => record.asked && record.state !== "stopped" && !record.ended;
const later = (element, ...names) => {
  hop().then(() => names.forEach((name) => native.dispatch.call(element, new Event(name))));
  activity += 1;
};
replace(HTMLMediaElement.prototype, "play", () =>
  function play() {
    const record = recordOf(this);
    if (!isPlaying(record)) {
      const began = now === 0 && record.state === "free";
      if (!began && !isTimed(this)) {
        const at = record.state === "stopped" && !record.ended ? record.at : 0;
        Object.assign(record, { state: "playing", at, since: now });
      }
      Object.assign(record, { asked: true, ended: false });
      record.pieces.push({ offset: now, seek: record.at, until: null });
      later(this, "play", "playing");
    }
    return Promise.resolve();
  });
replace(HTMLMediaElement.prototype, "pause", () =>
  function pause() {
    const record = recordOf(this);
    if (!isPlaying(record)) return;
    Object.assign(record, { at: placeOf(this, record), state: "stopped" });
    const piece = record.pieces.at(-1);
    if (piece) piece.until = now;
    later(this, "pause");
  });
replaceAccessor(HTMLMediaElement.prototype, "paused", () => ({
  get() {
    const record = records.get(this);
    return !record || !isPlaying(record);
  },
}));
replaceAccessor(HTMLMediaElement.prototype, "ended", () => ({
  get() {
    return records.get(this)?.ended ?? false;
  },
}));
const moveTo = (element, record, at) => {
  const playing = isPlaying(record);
  // A page may put it in each frame where it is anyway: that does not cut it in pieces.
  if (playing && Math.abs(placeOf(element, record) - at) <= INTO_THE_FRAME) return;
  const piece = record.pieces.at(-1);
  if (playing && piece) {
    if (piece.offset === now) record.pieces.pop();
    else piece.until = now;
    record.pieces.push({ offset: now, seek: at, until: null });
  }
  const state = playing ? "playing" : "stopped";
  Object.assign(record, { state, at, since: now, asked: true, ended: false });
};
replaceAccessor(HTMLMediaElement.prototype, "currentTime", ({ get }) => ({
  get() {
    const record = records.get(this);
    return record ? placeOf(this, record) : get.call(this);
  },
  set(value) {
    const wanted = Number(value);
    if (!Number.isFinite(wanted)) {
      nativeTime.set.call(this, wanted); // complains
      return;
    }
    const record = recordOf(this);
    if (!isTimed(this)) moveTo(this, record, between(0, wanted, LONGEST));
    record.native = null; // looked for again, to be sure that it is there
    nativeTime.set.call(this, placeOf(this, record) + INTO_THE_FRAME); // for the `seeked` that the page may wait for
  },
}));

const trackOf = (element, { offset, seek, duration }) => ({
  src: element.currentSrc || element.src,
  offset, seek, duration,
  volume: recordOf(element).volume,
  fadeIn: seconds(element, "fade-in"),
  fadeOut: seconds(element, "fade-out"),
  loop: element.loop,
  rate: rateOf(element),
});
const tracksOf = (element) => {
  const record = recordOf(element);
  if (isTimed(element) || record.state === "free" || record.pieces.length === 0) {
    return [trackOf(element, { offset: offsetOf(element), seek: seconds(element, "seek"), duration: null })];
  }
  return record.pieces.map(({ offset, seek, until }) =>
    trackOf(element, { offset: offset / 1000, seek, duration: until === null ? null : (until - offset) / 1000 }));
};
const isHeard = (element) => {
  const record = recordOf(element);
  return Boolean(element.currentSrc || element.src) && record.volume > 0 && rateOf(element) > 0 &&
    !element.hasAttribute("data-helios-no-audio") && (element.isConnected || record.pieces.length > 0);
};

// Nobody hears what a page makes of sounds itself; who renders it is to know.
let isSilenced = false;
for (const kind of ["AudioScheduledSourceNode", "AudioBufferSourceNode"]) {
  replace(window[kind].prototype, "start", (original) =>
    function start(...values) {
      original.apply(this, values);
      if (isSilenced || !(this.context instanceof AudioContext)) return;
      isSilenced = true;
      native.complain("it plays sound through Web Audio, which is not recorded: give it with --audio FILE");
    });
}
