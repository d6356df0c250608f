// What an IntersectionObserver has seen comes to the page as a task after a frame of the browser's, and the browser is
// given more frames where a page is slow. So it is kept, and told at the beginning of the page's next frame: however
// many frames the browser has had, the page is the same.
(() => {
  "use strict";
  const Native = window.IntersectionObserver;
  if (!Native || window.__LOGIST_OBSERVERS__) return;

  const takeRecords = Native.prototype.takeRecords;
  const report = window.reportError.bind(window);
  // Those that observe anything, with what they have seen and not yet told.
  const observing = new Map();

  window.IntersectionObserver = class IntersectionObserver extends Native {
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

  Object.defineProperty(window, "__LOGIST_OBSERVERS__", {
    value: Object.freeze({
      any: () => observing.size > 0,
      tell() {
        for (const tell of [...observing.values()]) {
          try {
            tell();
          } catch (error) {
            report(error);
          }
        }
      },
    }),
  });
})();
