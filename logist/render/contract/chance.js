// Chance: the same numbers every time.

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
