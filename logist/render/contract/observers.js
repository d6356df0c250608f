// What observers have seen comes to the page with the browser's own frames, and the browser is given more of them where
// a page is slow. So it is kept, and told at set places of the page's frame: however many frames the browser has had,
// the page is the same. An IntersectionObserver is told at the beginning of the page's next frame, a ResizeObserver at
// the end of the one in which a size changed.
(() => {
  "use strict";
  if (window.__LOGIST_OBSERVERS__) return;

  const report = window.reportError.bind(window);
  const dispatch = EventTarget.prototype.dispatchEvent;
  const safely = (tell) => {
    try {
      tell();
    } catch (error) {
      report(error);
    }
  };

  // ---- Intersections ------------------------------------------------------------------------------------------

  const { IntersectionObserver: NativeIntersections, ResizeObserver: NativeSizes } = window;
  const takeRecords = NativeIntersections.prototype.takeRecords;
  // Those that observe anything, with what they have seen and not yet told.
  const observing = new Map();

  window.IntersectionObserver = class IntersectionObserver extends NativeIntersections {
    #callback;
    #seen = [];
    constructor(callback, options) {
      super(typeof callback === "function" ? (entries) => this.#seen.push(...entries) : callback, options);
      this.#callback = callback;
    }
    observe(target) {
      super.observe(target);
      observing.set(this, () => {
        const entries = this.takeRecords();
        if (entries.length > 0) this.#callback.call(this, entries, this);
      });
    }
    disconnect() {
      super.disconnect();
      this.#seen.length = 0;
      observing.delete(this);
    }
    takeRecords() {
      return [...this.#seen.splice(0), ...takeRecords.call(this)];
    }
  };

  // ---- Sizes --------------------------------------------------------------------------------------------------

  const BOXES = {
    "border-box": "borderBoxSize",
    "content-box": "contentBoxSize",
    "device-pixel-content-box": "devicePixelContentBoxSize",
  };
  const sizeIn = (entry, box) => entry[BOXES[box]].map(({ inlineSize, blockSize }) => [inlineSize, blockSize]).join();
  const depthOf = (element) => {
    let depth = 0;
    for (let at = element; at; at = at.assignedSlot ?? at.parentNode ?? at.host) depth += 1;
    return depth;
  };
  // Those that observe anything, in the order in which they were made, which is the browser's.
  let made = 0;
  const sizeObservers = new Map();

  window.ResizeObserver = class ResizeObserver extends NativeSizes {
    #callback;
    #number = (made += 1);
    #targets = new WeakMap(); // element -> {options, order, told}
    #count = 0;
    #order = 0;
    #seen = new Map(); // element -> the last that was seen of it, and not yet told
    constructor(callback) {
      super(typeof callback === "function" ? (entries) => this.#keep(entries) : callback);
      this.#callback = callback;
    }
    #keep(entries) {
      for (const entry of entries) this.#seen.set(entry.target, entry);
    }
    observe(target, options) {
      super.observe(target, options);
      const box = options?.box ?? "content-box";
      if (this.#targets.get(target)?.box === box) return; // which the browser takes no notice of
      if (!this.#targets.has(target)) this.#count += 1;
      this.#targets.set(target, { options, box, order: (this.#order += 1), told: null });
      this.#seen.delete(target);
      sizeObservers.set(this, {
        number: this.#number,
        lookAgain: () => this.#lookAgain(),
        untold: (depth) => this.#untold(depth),
        tell: (entries) => this.#tell(entries),
      });
    }
    unobserve(target) {
      super.unobserve(target);
      this.#seen.delete(target);
      if (!this.#targets.delete(target)) return;
      this.#count -= 1;
      if (this.#count === 0) sizeObservers.delete(this);
    }
    disconnect() {
      super.disconnect();
      this.#seen.clear();
      this.#targets = new WeakMap();
      this.#count = 0;
      sizeObservers.delete(this);
    }
    // What was seen in the middle of a step is not what is there at its end, even where the size is the same.
    #lookAgain() {
      for (const target of this.#seen.keys()) {
        super.unobserve(target);
        super.observe(target, this.#targets.get(target).options);
      }
    }
    // What is new of elements that are deeper than that in the document.
    #untold(depth) {
      const found = [];
      for (const [target, entry] of this.#seen) {
        const of = this.#targets.get(target);
        if (sizeIn(entry, of.box) === of.told) this.#seen.delete(target);
        else if (depthOf(target) > depth) found.push({ of, entry });
      }
      return found.sort((one, other) => one.of.order - other.of.order);
    }
    #tell(found) {
      for (const { of, entry } of found) {
        of.told = sizeIn(entry, of.box);
        this.#seen.delete(entry.target);
      }
      this.#callback.call(this, found.map(({ entry }) => entry), this);
    }
  };

  // As in the browser: after the first round only what is deeper than all that was told before, so that it ends. What
  // remains is told in the next frame, and the page hears of that. `settled` brings the sizes of the layout as it is.
  const LEFT = "ResizeObserver loop completed with undelivered notifications.";
  const leaveTheRest = () => {
    const isAnyLeft = [...sizeObservers.values()].some(({ untold }) => untold(0).length > 0);
    if (isAnyLeft) dispatch.call(window, new ErrorEvent("error", { message: LEFT }));
  };
  const tellSizes = async (settled) => {
    for (let depth = 0; depth < Infinity && sizeObservers.size > 0; ) {
      for (const { lookAgain } of sizeObservers.values()) lookAgain();
      await settled();
      const observers = [...sizeObservers.values()].sort((one, other) => one.number - other.number);
      const rounds = observers.map(({ tell, untold }) => ({ tell, found: untold(depth) }));
      const due = rounds.filter(({ found }) => found.length > 0);
      depth = Math.min(...due.flatMap(({ found }) => found.map(({ entry }) => depthOf(entry.target))));
      for (const { tell, found } of due) safely(() => tell(found));
    }
    leaveTheRest();
  };

  Object.defineProperty(window, "__LOGIST_OBSERVERS__", {
    value: Object.freeze({
      any: () => observing.size > 0,
      tell() {
        for (const tell of [...observing.values()]) safely(tell);
      },
      anySizes: () => sizeObservers.size > 0,
      tellSizes,
    }),
  });
})();
