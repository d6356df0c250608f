// What elements and styles load: images, frames, fonts, scripts.

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
