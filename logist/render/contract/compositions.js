// What compositions publish: helios, a timeline, the virtual time.

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
