// What a page asks for by itself: the clock waits for it.

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
