// The pictures of a canvas, and whether a frame is all drawn by the page.

// A canvas that is shown whenever it is drawn, and not with the frame of the page; pictures that the browser takes of it.
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
replace(Document.prototype, "startViewTransition", (original) =>
  function startViewTransition(...given) {
    drawnElsewhere = true;
    return original.apply(this, given);
  });
const findCanvas = (selector) => {
  for (const root of [document, ...connectedRoots()]) {
    const found = root.querySelector(selector);
    if (found !== null) return found;
  }
  return null;
};
// Whether what a frame shows is all taken from the page as it is drawn: then the page may go on while it is shown.
const isAllDrawn = () => !drawnElsewhere && mediaElements().length === 0 && !observers.any();
const toDataURL = HTMLCanvasElement.prototype.toDataURL;
