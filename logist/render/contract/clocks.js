// Clocks: whatever tells the time tells the frame's.

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
