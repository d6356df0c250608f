// Animations, which the browser would move by its own time.

// The browser's own events of animations come when it shows frames, which a replay does less of: ours replace them.
const ANIMATION_EVENTS = [
  ...["start", "iteration", "end", "cancel"].map((name) => `animation${name}`),
  ...["run", "start", "end", "cancel"].map((name) => `transition${name}`),
];
const hideNative = (event) => {
  if (event.isTrusted) event.stopImmediatePropagation();
};
for (const name of ANIMATION_EVENTS) native.listen.call(window, name, hideNative, true);

// What the browser itself has of an animation, under what we let the page see.
const animation = { pause: Animation.prototype.pause, finish: Animation.prototype.finish };
for (const name of ["currentTime", "playState", "playbackRate", "timeline"]) {
  const { get, set } = Object.getOwnPropertyDescriptor(Animation.prototype, name);
  animation[`get_${name}`] = (of) => get.call(of);
  animation[`set_${name}`] = (of, value) => set.call(of, value);
}

// Animation -> what it does on our clock: at time `since` it was at `at`, and moves at `rate` while `running`.
// One that styles made hardly moves (it must run, so that styles may still pause it), any other is paused.
const HARDLY = 1e-9;
const states = new WeakMap();
const moving = new Map();
const ours = new WeakSet(); // animations that are not the page's
let happened = [];
const endOf = (of) => Number(of.effect?.getComputedTiming().endTime ?? 0);
const onOurClock = (of) => animation.get_timeline(of) instanceof DocumentTimeline;
const position = (state) => state.at + (now - state.since) * state.rate;
const hold = (of, state, at) => {
  if (state.byStyle) {
    if (animation.get_playbackRate(of) !== HARDLY) animation.set_playbackRate(of, HARDLY);
  } else if (animation.get_playState(of) !== "paused") {
    animation.pause.call(of);
  }
  animation.set_currentTime(of, at); // also ends the browser's waiting for a frame to pause in
};
const run = (of, state, at) => {
  Object.assign(state, { running: true, finished: false, at, last: at, since: now });
  moving.set(of, state);
  hold(of, state, at);
};
// One that was over runs again, in the browser's time, when it is made to run the other way.
const wakeFinished = (of, state) => {
  if (!state.finished || animation.get_playState(of) !== "running") return;
  run(of, state, Number(animation.get_currentTime(of)));
};
const rest = (of, state) => {
  state.running = false;
  if (!state.byStyle) moving.delete(of);
};
const adopt = (of) => {
  let state = states.get(of);
  if (state || ours.has(of) || !onOurClock(of)) return state;
  const playState = animation.get_playState(of);
  if (playState === "idle") return undefined;
  const rate = animation.get_playbackRate(of);
  const byStyle = of instanceof CSSAnimation;
  state = { byStyle, rate, running: false, finished: false, at: 0, last: 0, since: now, phase: "idle", iteration: 0 };
  states.set(of, state);
  for (const name of ["finish", "cancel"]) native.listen.call(of, name, hideNative);
  const start = rate < 0 ? endOf(of) : 0;
  if (playState === "paused") {
    state.at = Number(animation.get_currentTime(of) ?? 0);
    if (byStyle) {
      moving.set(of, state);
      animation.set_playbackRate(of, HARDLY);
    }
  } else {
    run(of, state, start);
  }
  return state;
};
// A page that takes a style's animation into its hands has it for good: styles don't pause it any more.
const taken = (of) => {
  const state = adopt(of);
  if (state?.byStyle) {
    sample(look(of, state));
    state.byStyle = false;
    animation.set_playbackRate(of, state.rate);
    if (!state.finished) hold(of, state, state.running ? position(state) : state.at);
  }
  return state;
};
const playback = (of, name) => {
  happened.push(() => {
    const currentTime = name === "finish" ? animation.get_currentTime(of) : null;
    native.dispatch.call(of, new AnimationPlaybackEvent(name, { currentTime, timelineTime: now }));
  });
};
const end = (of, state) => {
  rest(of, state);
  state.finished = true;
  moving.delete(of);
  if (state.byStyle) animation.set_playbackRate(of, state.rate);
  animation.finish.call(of);
  playback(of, "finish");
};
// What styles say of it. Read before anything is set: reading after that makes the browser reckon all styles anew.
const look = (of, state) => ({
  of,
  state,
  playState: animation.get_playState(of),
  timing: of instanceof CSSAnimation || of instanceof CSSTransition ? of.effect?.getComputedTiming() : undefined,
  limit: state.rate > 0 ? endOf(of) : 0,
});
const phaseAt = (local, { delay, activeDuration }, rate) => {
  const finish = delay + activeDuration;
  if (rate < 0 ? local <= delay : local < delay) return "before";
  return (rate < 0 ? local > finish : local >= finish) ? "after" : "active";
};
const styleEvents = ({ of, state, timing }, local) => {
  const target = of.effect?.target;
  if (!timing || !target) return;
  const transition = of instanceof CSSTransition;
  const { delay, activeDuration, iterations, iterationStart, duration } = timing;
  const phase = local === null ? "idle" : phaseAt(local, timing, state.rate);
  const whole = Number(duration) > 0 ? Math.floor((local - delay) / Number(duration) + iterationStart) : 0;
  const iteration = phase === "active" ? Math.min(whole, Math.ceil(iterations + iterationStart) - 1) : 0;
  const was = state.phase;
  const first = Math.max(0, Math.min(-delay, activeDuration));
  const emit = (name, elapsed) => {
    const about = { bubbles: true, elapsedTime: elapsed / 1000, pseudoElement: of.effect.pseudoElement ?? "" };
    const event = transition
      ? new TransitionEvent(`transition${name}`, { ...about, propertyName: of.transitionProperty })
      : new AnimationEvent(`animation${name}`, { ...about, animationName: of.animationName });
    happened.push(() => native.dispatch.call(target, event));
  };
  const began = was === "active" || was === "after";
  if (phase === "idle") {
    const past = Math.max(0, Math.min(state.last - delay, activeDuration));
    if (was === "active" || was === "before") emit("cancel", past);
  } else {
    if (transition && was === "idle") emit("run", first);
    if (phase !== "before" && !began) emit("start", first);
    if (phase === "active" && was === "after") emit("start", activeDuration);
    if (phase === "active" && was === "active" && iteration !== state.iteration && !transition) {
      emit("iteration", iteration * Number(duration));
    }
    if (phase === "after" && was !== "after") emit("end", activeDuration);
    if (phase === "before" && began) emit("end", 0);
  }
  Object.assign(state, { phase, iteration });
};
const followStyle = (state, playState) => {
  const runs = playState !== "paused";
  if (runs !== state.running) Object.assign(state, { running: runs, at: state.last, since: now });
};
const sample = (seen) => {
  const { of, state, playState, limit } = seen;
  if (playState === "idle") {
    styleEvents(seen, null);
    moving.delete(of);
    states.delete(of);
    return;
  }
  if (state.byStyle) followStyle(state, playState);
  if (!state.running) return;
  const at = position(state);
  if (state.rate !== 0 && (state.rate > 0 ? at >= limit - TOLERANCE : at <= TOLERANCE)) {
    state.last = limit;
    end(of, state);
  } else {
    state.last = at;
    animation.set_currentTime(of, at);
  }
  styleEvents(seen, state.last);
};
const tell = async () => {
  while (happened.length > 0) {
    const events = happened;
    happened = [];
    for (const event of events) {
      call(event, window);
      await turn();
    }
  }
};
const moveAnimations = async () => {
  if (moving.size === 0) return;
  const seen = [...moving].map(([of, state]) => look(of, state));
  seen.forEach(sample);
  if (happened.length > 0) await tell();
};
