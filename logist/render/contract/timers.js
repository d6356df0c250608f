// Timers and callbacks, on our clock.

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
