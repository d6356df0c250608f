// The page contract: it runs in every document before the page's own scripts, and puts time, chance and
// waiting into our hands. One function of its settings: {seed, fps: [numerator, denominator], props?: JSON}.
//
// Time stands still until `step` moves it. Everything of the browser's that is used here is taken from it at the
// start, because the page may put its own in place later.
(settings) => {
  "use strict";
  if (window.__LOGIST_PAGE__) return;

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

  // ---- Waiting -------------------------------------------------------------------------------------------------

  // A task of its own, so that all microtasks, and the messages that were posted before it, are done.
  const channel = new MessageChannel();
  const hops = [];
  channel.port1.onmessage = () => hops.shift()();
  const hop = () =>
    new Promise((resolve) => {
      hops.push(resolve);
      native.post.call(channel.port2, null);
    });

  const settle = async () => {
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const before = activity;
      await hop();
      if (activity === before) return;
    }
    throw new Error(`the page never comes to rest: it posts messages to itself without end (frame ${frame})`);
  };

  const pause = (milliseconds) => new Promise((resolve) => native.setTimeout(resolve, milliseconds));

  const within = (promise, milliseconds, describe) => {
    let timer;
    const late = new Promise((_, reject) => {
      timer = native.setTimeout(() => reject(new Error(describe())), Math.max(0, milliseconds));
    });
    return Promise.race([promise, late]).finally(() => native.clearTimeout(timer));
  };

  // Work that is not on the page's clock: the clock waits for it, or what a frame shows would depend on its speed.
  const pending = new Map();
  let pendingNumber = 0;
  let wakeUp = null;
  let doing = ""; // what else is waited for
  const begin = (what) => {
    const number = (pendingNumber += 1);
    activity += 1;
    pending.set(number, what);
    return () => {
      if (!pending.delete(number)) return;
      activity += 1;
      if (wakeUp) wakeUp();
    };
  };
  const track = (promise, what) => {
    const done = begin(what);
    promise.then(done, done);
    return promise;
  };
  const idle = async () => {
    while (pending.size > 0) {
      await new Promise((resolve) => (wakeUp = resolve));
      wakeUp = null;
      await settle();
    }
  };
  // After each of the page's callbacks: what it asked for is there before the next one runs, in whatever time it took.
  const turn = async () => {
    await hop();
    if (pending.size > 0) await idle();
  };
  const described = () => [...new Set(pending.values())].slice(0, 3).join(", ") || doing || "its own scripts";

  // ---- Chance --------------------------------------------------------------------------------------------------

  const mulberry32 = (seed) => {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return (mixed ^ (mixed >>> 14)) >>> 0;
    };
  };
  const chance = mulberry32(settings.seed);
  const chanceOfBytes = mulberry32(settings.seed ^ 0x5bd1e995);
  const fill = (bytes) => {
    for (let index = 0; index < bytes.length; index += 1) bytes[index] = chanceOfBytes() & 0xff;
  };
  own(Math, "random", () => chance() / 4_294_967_296);
  replace(Crypto.prototype, "getRandomValues", (original) =>
    function getRandomValues(array) {
      original.call(this, array); // complains about what may not be filled
      fill(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
      return array;
    });
  replace(Crypto.prototype, "randomUUID", () =>
    function randomUUID() {
      const bytes = new Uint8Array(16);
      fill(bytes);
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
      return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    });

  // ---- Clocks --------------------------------------------------------------------------------------------------

  // Rounded up: a page that reckons its frame from whole milliseconds, and rounds down, has the frame that is shown.
  const dateNow = () => EPOCH + Math.max(Math.ceil(now - TOLERANCE), wholeMilliseconds);
  own(native.Date, "now", dateNow);
  const VirtualDate = new Proxy(native.Date, {
    construct: (target, values, made) => Reflect.construct(target, values.length ? values : [dateNow()], made),
    apply: (target) => new target(dateNow()).toString(),
  });
  own(native.Date.prototype, "constructor", VirtualDate);
  own(window, "Date", VirtualDate);
  const dated = (original) =>
    function format(...values) {
      return original.call(this, ...(values[0] === undefined ? [dateNow(), ...values.slice(1)] : values));
    };
  replaceAccessor(Intl.DateTimeFormat.prototype, "format", ({ get }) => ({
    get() {
      return dated(get.call(this)).bind(this);
    },
  }));
  replace(Intl.DateTimeFormat.prototype, "formatToParts", dated);
  if (window.Temporal) {
    const instant = () => Temporal.Instant.fromEpochMilliseconds(dateNow());
    const zoned = (zone) => instant().toZonedDateTimeISO(zone ?? Temporal.Now.timeZoneId());
    own(Temporal.Now, "instant", instant);
    own(Temporal.Now, "zonedDateTimeISO", zoned);
    own(Temporal.Now, "plainDateTimeISO", (zone) => zoned(zone).toPlainDateTime());
    own(Temporal.Now, "plainDateISO", (zone) => zoned(zone).toPlainDate());
    own(Temporal.Now, "plainTimeISO", (zone) => zoned(zone).toPlainTime());
  }
  own(performance, "now", () => now);
  own(performance, "timeOrigin", EPOCH);
  replace(Performance.prototype, "mark", (original) =>
    function mark(name, options) {
      return original.call(this, name, { ...options, startTime: options?.startTime ?? now });
    });
  replaceAccessor(AnimationTimeline.prototype, "currentTime", ({ get }) => ({
    get() {
      return this instanceof DocumentTimeline ? now : get.call(this);
    },
  }));
  replaceAccessor(Event.prototype, "timeStamp", () => ({ get: () => now }));
  if (window.BaseAudioContext) {
    replaceAccessor(BaseAudioContext.prototype, "currentTime", ({ get }) => ({
      get() {
        return this instanceof AudioContext ? now / 1000 : get.call(this);
      },
    }));
  }

  // The least time at or just above the frame's that all the usual ways of reckoning the frame from it agree upon:
  // frame 31 at 30 frames a second is at 1033.3333333333333 ms, and 1033.3333333333333 / 1000 * 30 is below 31.
  const fps = FPS_NUMERATOR / FPS_DENOMINATOR;
  const isEarly = (time, number) =>
    Math.min((time / 1000) * fps, (time * fps) / 1000, time / (1000 / fps), time * (fps / 1000)) < number;
  const agreed = (number, milliseconds) => {
    let time = milliseconds;
    for (let step = 1; step <= 16 && isEarly(time, number); step += 1) {
      time = milliseconds * (1 + step * Number.EPSILON);
    }
    return time;
  };
  const agreedWhole = (number, milliseconds) => {
    const time = Math.ceil(milliseconds - TOLERANCE);
    return isEarly(time, number) ? time + 1 : time;
  };

  // ---- Timers --------------------------------------------------------------------------------------------------

  const timers = new Map();
  const queue = []; // the next one last; of those that are due at one time the first that was set
  let timerNumber = 0;
  let nesting = 0;
  const enqueue = (timer) => {
    let [low, high] = [0, queue.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (queue[middle].due > timer.due) low = middle + 1;
      else high = middle;
    }
    queue.splice(low, 0, timer);
  };
  const addTimer = (callback, delay, values, repeat) => {
    const wanted = Math.max(0, Number(delay) || 0);
    // As browsers do, and so that timers which set one another without a delay come to an end within a frame.
    const least = nesting >= 5 ? 4 : repeat ? 1 : 0;
    const period = Math.max(least, Math.min(wanted, 2 ** 31 - 1));
    const run = typeof callback === "function" ? callback : () => (0, eval)(String(callback));
    timerNumber += 1;
    activity += 1;
    const timer = { number: timerNumber, run, values, repeat, nesting: nesting + 1 };
    Object.assign(timer, { period, since: now, due: now + period, count: 1 });
    timers.set(timerNumber, timer);
    enqueue(timer);
    return timerNumber;
  };
  const removeTimer = (number) => {
    timers.delete(Number(number));
  };
  const nextTimer = (until) => {
    while (queue.length > 0 && !timers.has(queue.at(-1).number)) queue.pop();
    return queue.length > 0 && queue.at(-1).due <= until + TOLERANCE ? queue.at(-1) : null;
  };
  const fire = async (timer) => {
    if (timer.repeat) {
      timer.count += 1;
      timer.due = timer.since + timer.count * timer.period; // a product: a sum of periods would drift
      enqueue(timer);
    } else {
      timers.delete(timer.number);
    }
    nesting = timer.nesting;
    call(timer.run, window, ...timer.values);
    nesting = 0;
    await turn();
  };
  const runTimers = async (until) => {
    for (let fired = 0, timer = nextTimer(until); timer !== null; fired += 1, timer = nextTimer(until)) {
      if (fired >= MAX_TIMERS_A_FRAME) {
        throw new Error(`more than ${MAX_TIMERS_A_FRAME} timers are due in one frame (frame ${frame})`);
      }
      now = Math.max(now, Math.min(timer.due, until));
      queue.pop();
      await fire(timer);
    }
  };
  own(window, "setTimeout", function setTimeout(callback, delay, ...values) {
    return addTimer(callback, delay, values, false);
  });
  own(window, "setInterval", function setInterval(callback, delay, ...values) {
    return addTimer(callback, delay, values, true);
  });
  own(window, "clearTimeout", removeTimer);
  own(window, "clearInterval", removeTimer);

  let callbacks = new Map();
  let callbackNumber = 0;
  let running = null; // those of this frame that are still to run
  const runCallbacks = async () => {
    const due = callbacks;
    if (due.size === 0) return;
    callbacks = new Map(); // what asks for the next frame now waits for it
    running = due;
    for (const [number, callback] of due) {
      due.delete(number);
      call(callback, window, now);
      await turn();
    }
    running = null;
  };
  own(window, "requestAnimationFrame", function requestAnimationFrame(callback) {
    if (typeof callback !== "function") throw new TypeError("requestAnimationFrame takes a function");
    callbackNumber += 1;
    activity += 1;
    callbacks.set(callbackNumber, callback);
    return callbackNumber;
  });
  own(window, "cancelAnimationFrame", (number) => {
    callbacks.delete(Number(number));
    running?.delete(Number(number));
  });

  let idleCallbacks = new Map();
  let idleNumber = 0;
  const runIdleCallbacks = async () => {
    const due = idleCallbacks;
    if (due.size === 0) return;
    idleCallbacks = new Map();
    for (const [number, callback] of due) {
      due.delete(number);
      // It has to come to an end though the clock stands: each look at what remains takes a millisecond of it.
      let remaining = 10;
      call(callback, window, { didTimeout: false, timeRemaining: () => Math.max(0, remaining--) });
      await turn();
    }
  };
  own(window, "requestIdleCallback", function requestIdleCallback(callback) {
    idleNumber += 1;
    idleCallbacks.set(idleNumber, callback);
    return idleNumber;
  });
  own(window, "cancelIdleCallback", (number) => idleCallbacks.delete(Number(number)));

  // ---- What the page waits for outside its clock --------------------------------------------------------------

  const posts = (original) =>
    function postMessage(...values) {
      activity += 1;
      return original.apply(this, values);
    };
  replace(MessagePort.prototype, "postMessage", posts);
  replace(window, "postMessage", posts);
  const awaited = (target, names, describe) => {
    if (!target) return;
    for (const name of names) {
      replace(target, name, (original) =>
        function (...values) {
          const result = original.apply(this, values);
          return result instanceof Promise ? track(result, describe(this, values)) : result;
        });
    }
  };
  const address = (_, [resource]) => String(resource?.url ?? resource).slice(0, 200);
  const bodies = ["arrayBuffer", "blob", "bytes", "formData", "json", "text"];
  // Where, which functions that promise something, and how it is called while it is waited for.
  const PROMISES = [
    ["window", "fetch", address],
    ["window", "createImageBitmap", "an image bitmap"],
    ["Response", bodies, ({ url }) => url.slice(0, 200)],
    ["Request", bodies, "a request's body"],
    ["Blob", bodies, "a blob"],
    ["FontFace", "load", ({ family }) => `the font ${family}`],
    ["FontFaceSet", "load", (_, [font]) => `the font ${font}`],
    ["HTMLImageElement", "decode", ({ src }) => src.slice(0, 200)],
    ["ImageDecoder", "decode", "a picture"],
    ["OffscreenCanvas", "convertToBlob", "a canvas as a blob"],
    ["BaseAudioContext", "decodeAudioData", "a sound"],
    ["OfflineAudioContext", "startRendering", "a sound"],
    ["SubtleCrypto", [
      ...["digest", "sign", "verify", "encrypt", "decrypt", "generateKey", "deriveKey", "deriveBits"],
      ...["importKey", "exportKey", "wrapKey", "unwrapKey"],
    ], "cryptography"],
    ["IDBFactory", "databases", "a database"],
    ["CacheStorage", ["open", "has", "keys", "match", "delete"], "a cache"],
    ["Cache", ["add", "addAll", "delete", "keys", "match", "matchAll", "put"], "a cache"],
    ["GPU", "requestAdapter", "a GPU"],
    ["GPUAdapter", "requestDevice", "a GPU"],
    ["GPUBuffer", "mapAsync", "a GPU"],
    ["GPUQueue", "onSubmittedWorkDone", "a GPU"],
    ["GPUDevice", ["createRenderPipelineAsync", "createComputePipelineAsync", "popErrorScope"], "a GPU"],
    ["Scheduler", "yield", "a task"],
  ];
  for (const [where, names, what] of PROMISES) {
    const target = where === "window" ? window : window[where]?.prototype;
    awaited(target, [names].flat(), typeof what === "string" ? () => what : what);
  }
  awaited(WebAssembly, ["compile", "compileStreaming", "instantiate", "instantiateStreaming"], () => "WebAssembly");

  // What tells by events that it is done.
  const until = (target, names, what) => {
    const done = begin(what);
    for (const name of names) native.listen.call(target, name, done, { once: true });
    return done;
  };
  const told = (target, names, ends, what) => {
    for (const name of names) {
      replace(target, name, (original) =>
        function (...values) {
          const made = original.apply(this, values);
          until(made ?? this, ends, what);
          return made;
        });
    }
  };
  const reading = ["readAsArrayBuffer", "readAsBinaryString", "readAsDataURL", "readAsText"];
  told(FileReader.prototype, reading, ["loadend"], "a file");
  told(IDBFactory.prototype, ["open", "deleteDatabase"], ["success", "error"], "a database");
  // It is over when all that was asked for in it is there.
  told(IDBDatabase.prototype, ["transaction"], ["complete", "abort"], "a database");

  // What arrives in pieces. A page's own streams are not waited for: it may fill them by its clock.
  const arriving = new WeakSet();
  const arrives = (stream) => {
    if (stream) arriving.add(stream);
    return stream;
  };
  replaceAccessor(Response.prototype, "body", ({ get }) => ({
    get() {
      return this.url ? arrives(get.call(this)) : get.call(this);
    },
  }));
  replace(Blob.prototype, "stream", (original) =>
    function stream() {
      return arrives(original.call(this));
    });
  replace(ReadableStream.prototype, "getReader", (original) =>
    function getReader(...values) {
      const reader = original.apply(this, values);
      return arriving.has(this) ? arrives(reader) : reader;
    });
  replace(ReadableStream.prototype, "pipeThrough", (original) =>
    function pipeThrough(transform, options) {
      const out = original.call(this, transform, options);
      const browsers = [CompressionStream, DecompressionStream, TextDecoderStream, TextEncoderStream];
      return arriving.has(this) && browsers.some((kind) => transform instanceof kind) ? arrives(out) : out;
    });
  for (const { prototype } of [ReadableStreamDefaultReader, ReadableStreamBYOBReader]) {
    replace(prototype, "read", (original) =>
      function read(...values) {
        const piece = original.apply(this, values);
        return arriving.has(this) ? track(piece, "a stream") : piece;
      });
  }
  replace(HTMLCanvasElement.prototype, "toBlob", (original) =>
    function toBlob(callback, ...values) {
      const done = begin("a canvas as a blob");
      return original.call(this, (blob) => {
        done();
        callback(blob);
      }, ...values);
    });
  if (window.scheduler) {
    replace(Scheduler.prototype, "postTask", (original) =>
      function postTask(callback, { delay = 0, ...options } = {}) {
        if (!(delay > 0)) return track(original.call(this, callback, options), "a task");
        return new Promise((resolve, reject) => {
          addTimer(() => original.call(this, callback, options).then(resolve, reject), delay, [], false);
        });
      });
  }
  const opened = new WeakMap();
  replace(XMLHttpRequest.prototype, "open", (original) =>
    function open(...values) {
      opened.set(this, String(values[1]).slice(0, 200));
      return original.apply(this, values);
    });
  replace(XMLHttpRequest.prototype, "send", (original) =>
    function send(...values) {
      const done = until(this, ["loadend"], opened.get(this) ?? "a request");
      try {
        return original.apply(this, values);
      } catch (error) {
        done();
        throw error;
      }
    });

  const loadingImages = new WeakMap();
  const watchImage = (image) => {
    if (loadingImages.has(image)) return;
    image.loading = "eager";
    const done = begin(image.currentSrc || image.src || "an image");
    const look = () => {
      if (!image.complete) return; // it got another address meanwhile
      loadingImages.delete(image);
      hop().then(done);
    };
    loadingImages.set(image, look);
    native.listen.call(image, "load", look);
    native.listen.call(image, "error", look);
  };
  const { set: setSource } = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, "src");
  for (const name of ["src", "srcset"]) {
    replaceAccessor(HTMLImageElement.prototype, name, ({ set }) => ({
      set(value) {
        set.call(this, value);
        if (String(value)) watchImage(this);
      },
    }));
  }

  const images = document.images;
  const frames = document.getElementsByTagName("iframe");
  const links = document.getElementsByTagName("link");
  const loadedElements = new WeakSet();
  for (const name of ["load", "error"]) {
    native.listen.call(document, name, ({ target }) => loadedElements.add(target), true);
  }
  const watchFrame = (element) => {
    if (loadedElements.has(element)) return;
    loadedElements.add(element);
    element.loading = "eager";
    const source = element.getAttribute("src") ?? "";
    if (element.hasAttribute("srcdoc") || (source && !source.startsWith("about:"))) {
      native.listen.call(element, "load", begin(`the frame ${source.slice(0, 200)}`), { once: true });
    }
  };
  const watchLoads = () => {
    for (const image of images) {
      if (!image.complete || (image.loading === "lazy" && !image.currentSrc && image.src)) watchImage(image);
    }
    for (const element of frames) watchFrame(element);
    for (const root of connectedRoots()) {
      for (const image of root.querySelectorAll("img")) if (!image.complete) watchImage(image);
    }
    if (document.fonts.status === "loading") track(fontsReady(), "fonts");
  };
  let fontsWanted = null;
  const fontsReady = () => {
    if (fontsWanted === null) {
      void document.documentElement?.offsetWidth; // fonts are asked for by layout, and nobody else asks for one
      fontsWanted = document.fonts.ready.finally(() => (fontsWanted = null));
    }
    return fontsWanted;
  };

  const shown = new WeakMap();
  const decodeImages = async () => {
    const decoded = [];
    const decode = (image) => {
      if (!image.complete || image.naturalWidth === 0 || shown.get(image) === image.currentSrc) return;
      shown.set(image, image.currentSrc);
      decoded.push(native.decode.call(image));
    };
    for (const image of images) decode(image);
    for (const root of connectedRoots()) root.querySelectorAll("img").forEach(decode);
    if (decoded.length > 0) await Promise.allSettled(decoded); // what can't be decoded is shown as such
  };

  // Images that only styles name: fetched before a style may come to show them, and held, so that they stay decoded.
  const kept = new Map();
  const keptForElements = new Set(); // the last to be wanted last
  const whole = (url, base = document.baseURI) => (URL.canParse(url, base) ? [new URL(url, base).href] : []);
  const addressesIn = (text, base) => {
    const found = [...text.matchAll(/url\((["']?)(.*?)\1\)/g)].map(([, , url]) => url);
    return found.filter((url) => url && !url.startsWith("#")).flatMap((url) => whole(url, base));
  };
  const addressesOfRules = (rules, base) =>
    [...rules].flatMap((rule) => {
      if (rule instanceof CSSImportRule) return rule.styleSheet ? addressesOfSheet(rule.styleSheet) : [];
      if (rule instanceof CSSFontFaceRule) return [];
      const text = rule.style?.cssText ?? ""; // what else names an address is no picture: @namespace, for one
      const nested = rule.cssRules?.length > 0 ? addressesOfRules(rule.cssRules, base) : [];
      return text.includes("url(") ? [...addressesIn(text, base), ...nested] : nested;
    });
  const addressesOfSheet = (sheet) => {
    let rules;
    try {
      rules = sheet.cssRules;
    } catch (error) {
      if (error.name !== "SecurityError") throw error;
      return []; // another site's; what it shows now is found where it is shown
    }
    return addressesOfRules(rules, sheet.href ?? document.baseURI);
  };
  const addressesOfElement = (element) => {
    const found = [];
    for (const pseudo of [null, "::before", "::after"]) {
      const style = getComputedStyle(element, pseudo);
      for (const name of ["backgroundImage", "maskImage", "borderImageSource", "listStyleImage", "content"]) {
        if (style[name]?.includes("url(")) found.push(...addressesIn(style[name], document.baseURI));
      }
    }
    if (element instanceof SVGImageElement && element.href.baseVal) found.push(...whole(element.href.baseVal));
    if (element instanceof HTMLVideoElement && element.poster) found.push(element.poster);
    return found;
  };
  const keepImage = (url) => {
    if (kept.has(url)) return;
    const image = new native.Image();
    setSource.call(image, url);
    kept.set(url, image);
    const ignore = () => {}; // what a style names and nobody has is not shown, as in any browser
    track(native.decode.call(image).catch(ignore), url.slice(0, 200));
  };
  const keepImagesOfStyles = () => {
    for (const root of [document, ...connectedRoots()]) {
      for (const sheet of [...root.styleSheets, ...root.adoptedStyleSheets]) addressesOfSheet(sheet).forEach(keepImage);
      for (const element of root.querySelectorAll("*")) addressesOfElement(element).forEach(keepImage);
    }
  };
  const keepForElement = (url) => {
    if (kept.has(url) && !keptForElements.delete(url)) return;
    keptForElements.add(url);
    keepImage(url);
  };
  const keepImagesOfElements = () => {
    const wanted = new Set();
    for (const root of [document, ...connectedRoots()]) {
      for (const element of root.querySelectorAll("[style*='url(']")) {
        for (const url of addressesIn(element.getAttribute("style"), document.baseURI)) wanted.add(url);
      }
    }
    wanted.forEach(keepForElement);
    // A page may make a new one for each frame, and no memory holds all of them.
    for (const url of keptForElements) {
      if (keptForElements.size <= Math.max(MAX_KEPT, wanted.size)) break;
      keptForElements.delete(url);
      kept.delete(url);
    }
  };
  const loadFonts = () => {
    for (const face of document.fonts) {
      // A face for a part of Unicode is loaded by the text that needs it.
      if (face.status === "unloaded" && face.unicodeRange === "U+0-10FFFF") face.load().catch(() => {});
    }
    track(fontsReady(), "fonts");
  };

  // A page without one of its scripts is another page. What else is missing is shown as missing.
  const noteMissing = ({ target }) => {
    if (target instanceof HTMLScriptElement) {
      native.report(new Error(`the script ${target.src || "module"} could not be loaded`.slice(0, 300)));
    }
  };
  native.listen.call(window, "error", noteMissing, true);

  // ---- Shadow roots -------------------------------------------------------------------------------------------

  const roots = new Set();
  const addRoot = (root) => {
    if (roots.has(root)) return;
    roots.add(root);
    for (const name of ANIMATION_EVENTS) native.listen.call(root, name, hideNative, true);
  };
  const connectedRoots = () => (roots.size === 0 ? [] : [...roots].filter(({ host }) => host.isConnected));
  const findRoots = (within) => {
    for (const element of within.querySelectorAll("*")) {
      if (element.shadowRoot && !roots.has(element.shadowRoot)) {
        addRoot(element.shadowRoot);
        findRoots(element.shadowRoot);
      }
    }
  };
  replace(Element.prototype, "attachShadow", (original) =>
    function attachShadow(options) {
      const root = original.call(this, options);
      addRoot(root);
      return root;
    });

  // ---- Animations ---------------------------------------------------------------------------------------------

  // The browser's own events of animations come when it shows frames, which a replay does less of: ours replace them.
  const ANIMATION_EVENTS = [
    ...["start", "iteration", "end", "cancel"].map((name) => `animation${name}`),
    ...["run", "start", "end", "cancel"].map((name) => `transition${name}`),
  ];
  const hideNative = (event) => {
    if (event.isTrusted) event.stopImmediatePropagation();
  };
  for (const name of ANIMATION_EVENTS) native.listen.call(window, name, hideNative, true);

  // What the browser itself has of an animation, under what we let the page see.
  const animation = { pause: Animation.prototype.pause, finish: Animation.prototype.finish };
  for (const name of ["currentTime", "playState", "playbackRate", "timeline"]) {
    const { get, set } = Object.getOwnPropertyDescriptor(Animation.prototype, name);
    animation[`get_${name}`] = (of) => get.call(of);
    animation[`set_${name}`] = (of, value) => set.call(of, value);
  }

  // Animation -> what it does on our clock: at time `since` it was at `at`, and moves at `rate` while `running`.
  // One that styles made hardly moves (it must run, so that styles may still pause it), any other is paused.
  const HARDLY = 1e-9;
  const states = new WeakMap();
  const moving = new Map();
  const ours = new WeakSet(); // animations that are not the page's
  let happened = [];
  const endOf = (of) => Number(of.effect?.getComputedTiming().endTime ?? 0);
  const onOurClock = (of) => animation.get_timeline(of) instanceof DocumentTimeline;
  const position = (state) => state.at + (now - state.since) * state.rate;
  const hold = (of, state, at) => {
    if (state.byStyle) {
      if (animation.get_playbackRate(of) !== HARDLY) animation.set_playbackRate(of, HARDLY);
    } else if (animation.get_playState(of) !== "paused") {
      animation.pause.call(of);
    }
    animation.set_currentTime(of, at); // also ends the browser's waiting for a frame to pause in
  };
  const run = (of, state, at) => {
    Object.assign(state, { running: true, finished: false, at, last: at, since: now });
    moving.set(of, state);
    hold(of, state, at);
  };
  // One that was over runs again, in the browser's time, when it is made to run the other way.
  const wakeFinished = (of, state) => {
    if (!state.finished || animation.get_playState(of) !== "running") return;
    run(of, state, Number(animation.get_currentTime(of)));
  };
  const rest = (of, state) => {
    state.running = false;
    if (!state.byStyle) moving.delete(of);
  };
  const adopt = (of) => {
    let state = states.get(of);
    if (state || ours.has(of) || !onOurClock(of)) return state;
    const playState = animation.get_playState(of);
    if (playState === "idle") return undefined;
    const rate = animation.get_playbackRate(of);
    const byStyle = of instanceof CSSAnimation;
    state = { byStyle, rate, running: false, finished: false, at: 0, last: 0, since: now, phase: "idle", iteration: 0 };
    states.set(of, state);
    for (const name of ["finish", "cancel"]) native.listen.call(of, name, hideNative);
    const start = rate < 0 ? endOf(of) : 0;
    if (playState === "paused") {
      state.at = Number(animation.get_currentTime(of) ?? 0);
      if (byStyle) {
        moving.set(of, state);
        animation.set_playbackRate(of, HARDLY);
      }
    } else {
      run(of, state, start);
    }
    return state;
  };
  // A page that takes a style's animation into its hands has it for good: styles don't pause it any more.
  const taken = (of) => {
    const state = adopt(of);
    if (state?.byStyle) {
      sample(look(of, state));
      state.byStyle = false;
      animation.set_playbackRate(of, state.rate);
      if (!state.finished) hold(of, state, state.running ? position(state) : state.at);
    }
    return state;
  };
  const playback = (of, name) => {
    happened.push(() => {
      const currentTime = name === "finish" ? animation.get_currentTime(of) : null;
      native.dispatch.call(of, new AnimationPlaybackEvent(name, { currentTime, timelineTime: now }));
    });
  };
  const end = (of, state) => {
    rest(of, state);
    state.finished = true;
    moving.delete(of);
    if (state.byStyle) animation.set_playbackRate(of, state.rate);
    animation.finish.call(of);
    playback(of, "finish");
  };
  // What styles say of it. Read before anything is set: reading after that makes the browser reckon all styles anew.
  const look = (of, state) => ({
    of,
    state,
    playState: animation.get_playState(of),
    timing: of instanceof CSSAnimation || of instanceof CSSTransition ? of.effect?.getComputedTiming() : undefined,
    limit: state.rate > 0 ? endOf(of) : 0,
  });
  const phaseAt = (local, { delay, activeDuration }, rate) => {
    const finish = delay + activeDuration;
    if (rate < 0 ? local <= delay : local < delay) return "before";
    return (rate < 0 ? local > finish : local >= finish) ? "after" : "active";
  };
  const styleEvents = ({ of, state, timing }, local) => {
    const target = of.effect?.target;
    if (!timing || !target) return;
    const transition = of instanceof CSSTransition;
    const { delay, activeDuration, iterations, iterationStart, duration } = timing;
    const phase = local === null ? "idle" : phaseAt(local, timing, state.rate);
    const whole = Number(duration) > 0 ? Math.floor((local - delay) / Number(duration) + iterationStart) : 0;
    const iteration = phase === "active" ? Math.min(whole, Math.ceil(iterations + iterationStart) - 1) : 0;
    const was = state.phase;
    const first = Math.max(0, Math.min(-delay, activeDuration));
    const emit = (name, elapsed) => {
      const about = { bubbles: true, elapsedTime: elapsed / 1000, pseudoElement: of.effect.pseudoElement ?? "" };
      const event = transition
        ? new TransitionEvent(`transition${name}`, { ...about, propertyName: of.transitionProperty })
        : new AnimationEvent(`animation${name}`, { ...about, animationName: of.animationName });
      happened.push(() => native.dispatch.call(target, event));
    };
    const began = was === "active" || was === "after";
    if (phase === "idle") {
      const past = Math.max(0, Math.min(state.last - delay, activeDuration));
      if (was === "active" || was === "before") emit("cancel", past);
    } else {
      if (transition && was === "idle") emit("run", first);
      if (phase !== "before" && !began) emit("start", first);
      if (phase === "active" && was === "after") emit("start", activeDuration);
      if (phase === "active" && was === "active" && iteration !== state.iteration && !transition) {
        emit("iteration", iteration * Number(duration));
      }
      if (phase === "after" && was !== "after") emit("end", activeDuration);
      if (phase === "before" && began) emit("end", 0);
    }
    Object.assign(state, { phase, iteration });
  };
  const followStyle = (state, playState) => {
    const runs = playState !== "paused";
    if (runs !== state.running) Object.assign(state, { running: runs, at: state.last, since: now });
  };
  const sample = (seen) => {
    const { of, state, playState, limit } = seen;
    if (playState === "idle") {
      styleEvents(seen, null);
      moving.delete(of);
      states.delete(of);
      return;
    }
    if (state.byStyle) followStyle(state, playState);
    if (!state.running) return;
    const at = position(state);
    if (state.rate !== 0 && (state.rate > 0 ? at >= limit - TOLERANCE : at <= TOLERANCE)) {
      state.last = limit;
      end(of, state);
    } else {
      state.last = at;
      animation.set_currentTime(of, at);
    }
    styleEvents(seen, state.last);
  };
  const tell = async () => {
    while (happened.length > 0) {
      const events = happened;
      happened = [];
      for (const event of events) {
        call(event, window);
        await turn();
      }
    }
  };
  const moveAnimations = async () => {
    if (moving.size === 0) return;
    const seen = [...moving].map(([of, state]) => look(of, state));
    seen.forEach(sample);
    if (happened.length > 0) await tell();
  };
  const getAnimations = Document.prototype.getAnimations;
  const getRootAnimations = ShadowRoot.prototype.getAnimations;
  const findAnimations = () => {
    for (const of of getAnimations.call(document)) adopt(of);
    for (const root of connectedRoots()) for (const of of getRootAnimations.call(root)) adopt(of);
    for (const [of, state] of moving) if (state.byStyle) followStyle(state, animation.get_playState(of));
  };

  for (const target of [Document.prototype, ShadowRoot.prototype, Element.prototype]) {
    replace(target, "getAnimations", (original) =>
      function getAnimations(...values) {
        const found = original.apply(this, values).filter((of) => !ours.has(of));
        found.forEach(adopt);
        return found;
      });
  }
  replace(Element.prototype, "animate", (original) =>
    function animate(...values) {
      const made = original.apply(this, values);
      adopt(made);
      return made;
    });
  const restart = (name) => {
    replace(Animation.prototype, name, (original) =>
      function (...values) {
        if (!onOurClock(this)) return original.apply(this, values);
        let state = taken(this);
        if (state?.running) {
          animation.set_currentTime(this, position(state));
          if (name === "play") return undefined;
        }
        original.apply(this, values);
        state ??= adopt(this);
        state.rate = animation.get_playbackRate(this);
        if (name === "reverse") {
          // What a reversal is to be is pending until a frame; pausing settles it.
          animation.pause.call(this);
          const at = animation.get_currentTime(this);
          animation.set_currentTime(this, at);
          state.rate = animation.get_playbackRate(this);
        }
        run(this, state, Number(animation.get_currentTime(this) ?? 0));
        return undefined;
      });
  };
  restart("play");
  restart("reverse");
  replace(Animation.prototype, "pause", (original) =>
    function pause() {
      const state = taken(this);
      if (!state) {
        original.call(this);
        return;
      }
      const at = state.running ? position(state) : animation.get_currentTime(this);
      original.call(this);
      animation.set_currentTime(this, at ?? 0);
      rest(this, state);
      Object.assign(state, { at: Number(at ?? 0), finished: false });
    });
  replace(Animation.prototype, "finish", (original) =>
    function finish() {
      const state = taken(this);
      original.call(this);
      if (!state || state.finished) return;
      rest(this, state);
      state.finished = true;
      state.last = state.rate > 0 ? endOf(this) : 0;
      playback(this, "finish");
      styleEvents(look(this, state), state.last);
    });
  replace(Animation.prototype, "cancel", (original) =>
    function cancel() {
      const state = adopt(this);
      const seen = state && look(this, state);
      original.call(this);
      if (!state) return;
      styleEvents(seen, null);
      moving.delete(this);
      states.delete(this);
      playback(this, "cancel");
    });
  replace(Animation.prototype, "updatePlaybackRate", (original) =>
    function updatePlaybackRate(rate) {
      const state = taken(this);
      if (state?.running) animation.set_currentTime(this, position(state));
      original.call(this, rate);
      if (!state) return;
      Object.assign(state, { at: state.running ? position(state) : state.at, since: now });
      state.rate = Number(rate);
      wakeFinished(this, state);
    });
  const settable = (name, get, set) =>
    replaceAccessor(Animation.prototype, name, (descriptor) => ({
      get() {
        const state = states.get(this);
        return state ? get(this, state) : descriptor.get.call(this);
      },
      ...(set && {
        set(value) {
          const state = taken(this);
          if (state && value !== null) set(this, state, Number(value));
          else descriptor.set.call(this, value);
        },
      }),
    }));
  settable("currentTime",
    (of, state) => (state.running ? position(state) : animation.get_currentTime(of)),
    (of, state, at) => {
      if (state.running || state.finished) run(of, state, at);
      else Object.assign(state, { at, since: now });
      animation.set_currentTime(of, at);
    });
  settable("startTime",
    (of, state) => ((state.running || state.finished) && state.rate !== 0 ? state.since - state.at / state.rate : null),
    (of, state, start) => run(of, state, (now - start) * state.rate));
  settable("playbackRate",
    (of, state) => state.rate,
    (of, state, rate) => {
      Object.assign(state, { at: state.running ? position(state) : state.at, since: now, rate });
      const at = state.finished ? animation.get_currentTime(of) : state.at;
      animation.set_playbackRate(of, rate);
      if (state.finished) wakeFinished(of, state);
      else animation.set_currentTime(of, at);
    });
  settable("playState", (of, state) =>
    state.finished ? "finished" : state.running ? "running" : animation.get_playState(of));
  settable("pending", () => false);

  // ---- SVG's own animations -----------------------------------------------------------------------------------

  const SMIL = ["animate", "animateTransform", "animateMotion", "set"];
  const smilElements = SMIL.map((name) => document.getElementsByTagName(name));
  const svgBegan = new WeakMap();
  const placeSvg = (svg) => {
    if (svg.ownerSVGElement !== null) return;
    if (!svgBegan.has(svg)) svgBegan.set(svg, now);
    svg.pauseAnimations();
    svg.setCurrentTime((now - svgBegan.get(svg)) / 1000);
  };
  const placeSvgs = () => {
    if (smilElements.some(({ length }) => length > 0)) document.querySelectorAll("svg").forEach(placeSvg);
    for (const root of connectedRoots()) {
      if (root.querySelector(SMIL.join()) !== null) root.querySelectorAll("svg").forEach(placeSvg);
    }
  };

  // ---- Video and sound ----------------------------------------------------------------------------------------

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

  // A video reaches the screen on a way of its own, now and then later than the rest of its frame. So its picture is
  // shown as its background, which comes with the rest, and itself is moved out of its box.
  const covers = new WeakMap();
  const HEADER = 122; // bytes before the pixels of a bitmap
  const BACKGROUND_SIZES = { fill: "100% 100%", contain: "contain", cover: "cover", none: "auto" };
  const bitmapHeader = (width, height) => {
    const header = new DataView(new ArrayBuffer(HEADER));
    const size = HEADER + 4 * width * height;
    const words = [[2, size], [10, HEADER], [14, 108], [18, width], [22, -height], [30, 3], [34, 4 * width * height]];
    const masks = [[54, 0xff], [58, 0xff00], [62, 0xff0000], [66, 0xff000000], [70, 0x73524742]];
    header.setUint16(0, 0x424d);
    header.setUint16(26, 1, true);
    header.setUint16(28, 32, true);
    for (const [at, word] of [...words, ...masks]) header.setUint32(at, word, true);
    return header;
  };
  // null: another site's, and not to be had.
  const pictureOf = (video) => {
    const { videoWidth: width, videoHeight: height } = video;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    native.draw.call(context, video, 0, 0, width, height);
    try {
      const { data } = context.getImageData(0, 0, width, height);
      return new Uint32Array(data.buffer);
    } catch (error) {
      if (error.name !== "SecurityError") throw error;
      return null;
    }
  };
  const areAlike = (one, other) => {
    let index = 0;
    while (index < one.length && one[index] === other[index]) index += 1;
    return one.length === other.length && index === one.length;
  };
  const coverOf = (video) => {
    let cover = covers.get(video);
    if (!cover) {
      // An animation, not a style of the element: it starts no transitions, and is nothing that a page would read.
      const over = native.animate.call(video, [], { duration: 1, fill: "both" });
      ours.add(over);
      animation.pause.call(over);
      cover = { over, picture: new Uint32Array(0), image: null, address: "" };
      covers.set(video, cover);
    }
    return cover;
  };
  const coverVideo = async (video) => {
    const picture = pictureOf(video);
    if (picture === null) return;
    const cover = coverOf(video);
    const before = cover.address;
    if (!areAlike(cover.picture, picture)) {
      // Not as text in its address, all of which the browser would tell with each request.
      const bitmap = [bitmapHeader(video.videoWidth, video.videoHeight), picture];
      cover.address = native.createObjectURL(new native.Blob(bitmap, { type: "image/bmp" }));
      cover.image = new native.Image();
      setSource.call(cover.image, cover.address);
      await native.decode.call(cover.image);
      cover.picture = picture;
    }
    cover.over.effect.setKeyframes([]);
    const { objectFit, objectPosition, width, height } = getComputedStyle(video);
    const fits = video.videoWidth <= parseFloat(width) && video.videoHeight <= parseFloat(height);
    const shown = {
      backgroundImage: `url("${cover.address}")`,
      backgroundSize: BACKGROUND_SIZES[objectFit] ?? (fits ? "auto" : "contain"),
      backgroundPosition: objectPosition,
      backgroundOrigin: "content-box",
      backgroundClip: "content-box",
      backgroundRepeat: "no-repeat",
      objectPosition: "-100000px -100000px",
    };
    cover.over.effect.setKeyframes([shown, shown]);
    if (before && before !== cover.address) native.revokeObjectURL(before);
  };
  const coverVideos = async () => {
    for (const video of mediaElements()) {
      if (!(video instanceof HTMLVideoElement) || !video.isConnected || !video.videoWidth) continue;
      if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && video.checkVisibility()) await coverVideo(video);
    }
  };

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

  // ---- Canvas -------------------------------------------------------------------------------------------------

  // A canvas that is shown whenever it is drawn, and not with the frame of the page.
  let drawnElsewhere = false;
  const preserving = (original) =>
    function getContext(kind, options) {
      if (options?.desynchronized) drawnElsewhere = true;
      // Its pixels are read after the browser may have handed them on, and a buffer that is handed on is empty.
      const kinds = ["webgl", "webgl2", "experimental-webgl"];
      return kinds.includes(kind)
        ? original.call(this, kind, { ...options, preserveDrawingBuffer: true })
        : original.call(this, kind, options);
    };
  replace(HTMLCanvasElement.prototype, "getContext", preserving);
  replace(HTMLCanvasElement.prototype, "transferControlToOffscreen", (original) =>
    function transferControlToOffscreen() {
      drawnElsewhere = true;
      return original.call(this);
    });
  const findCanvas = (selector) => {
    for (const root of [document, ...connectedRoots()]) {
      const found = root.querySelector(selector);
      if (found !== null) return found;
    }
    return null;
  };
  const toDataURL = HTMLCanvasElement.prototype.toDataURL;

  // ---- What compositions publish ------------------------------------------------------------------------------

  if (settings.props !== undefined) window.__HELIOS_PROPS__ = JSON.parse(settings.props);
  window.__HELIOS_VIRTUAL_TIME__ = 0;

  const rational = (value) => {
    if (Number.isInteger(value)) return [value, 1];
    const ntsc = Math.round(value) * 1000; // 29.97 and 23.976 are short for these
    return Math.abs(ntsc / 1001 - value) < 0.005 ? [ntsc, 1001] : [Math.round(value * 1e6), 1e6];
  };
  const heliosFrame = (helios) => {
    const own = Number(helios.fps?.value ?? helios.fps);
    if (!(own > 0) || Math.abs(own - fps) < 1e-9) return frame;
    const [numerator, denominator] = rational(own);
    const [above, below] = [frame * FPS_DENOMINATOR * numerator, FPS_NUMERATOR * denominator];
    // One that follows the virtual time stands between frames too, and waits until it is told the very same.
    const follows = Object.getOwnPropertyDescriptor(window, "__HELIOS_VIRTUAL_TIME__")?.set !== undefined;
    return follows ? above / below : Math.floor(above / below);
  };
  const seekHelios = (again) => {
    const helios = window.helios;
    if (typeof helios?.seek !== "function") return;
    const wanted = heliosFrame(helios);
    if (again && (helios.currentFrame === undefined || helios.currentFrame?.value === wanted)) return;
    helios.seek(wanted);
  };
  const seekTimeline = (again) => {
    const timeline = window.__helios_gsap_timeline__;
    if (typeof timeline?.seek !== "function") return;
    const runs = typeof timeline.paused === "function" && !timeline.paused();
    // One that runs by itself is moved by this frame's callbacks; before them it would be moved twice.
    const elsewhere = typeof timeline.time === "function" && timeline.time() !== now / 1000;
    if (again ? runs || elsewhere : !runs) timeline.seek(now / 1000);
  };

  const isToBeStable = () => typeof window.helios?.waitUntilStable === "function";
  const stable = async () => {
    const [timersBefore, callbacksBefore] = [timerNumber, callbackNumber];
    let done = false;
    doing = "helios.waitUntilStable()";
    const waited = Promise.resolve(window.helios.waitUntilStable()).finally(() => (done = true));
    await Promise.race([waited, pause(PATIENCE)]);
    // It takes its time: if it is one of its own timers that it waits for, our clock would keep it waiting for ever.
    while (!done) {
      await idle();
      await settleSizes();
      for (const timer of [...timers.values()]) {
        if (timer.number > timersBefore && !timer.repeat && timers.has(timer.number)) await fire(timer);
      }
      for (const [number, callback] of callbacks) {
        if (number > callbacksBefore && callbacks.delete(number)) call(callback, window, now);
      }
      await Promise.race([waited, pause(PATIENCE / 10)]);
    }
    await waited;
    doing = "";
  };

  // ---- The way in ---------------------------------------------------------------------------------------------

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

  // Whether what a frame shows is all taken from the page as it is drawn: then the page may go on while it is shown.
  const isAllDrawn = () => !drawnElsewhere && mediaElements().length === 0 && !window.__LOGIST_OBSERVERS__.any();
  let frameDrawn = Promise.resolve();

  own(window, "__LOGIST_PAGE__", Object.freeze({
    async ready(timeout) {
      patience = timeout * 0.9; // who waits for us is to get our word of what is missing, not lose patience first
      await within(getReady(), patience, () =>
        document.readyState === "complete" ? `the page still waits for ${described()}` : "the page has not loaded");
    },
    async step(number, milliseconds, capture) {
      stepped = true;
      frame = number;
      await within(advance(capture, agreed(number, milliseconds)), patience, () =>
        `frame ${number} is not done: the page still waits for ${described()}`);
      // The hop: once the callbacks of the browser's frame are done, the page is drawn; and only then comes a task.
      frameDrawn = new Promise((resolve) => native.requestAnimationFrame(() => hop().then(resolve)));
      return isAllDrawn();
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
}
