// How we wait: for messages that are under way, for work that is not on the page's clock, and never for ever.

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
