// What a page does with its animations.

const getAnimations = Document.prototype.getAnimations;
const getRootAnimations = ShadowRoot.prototype.getAnimations;
const findAnimations = () => {
  for (const of of getAnimations.call(document)) adopt(of);
  for (const root of connectedRoots()) for (const of of getRootAnimations.call(root)) adopt(of);
  for (const [of, state] of moving) if (state.byStyle) followStyle(state, animation.get_playState(of));
};

for (const target of [Document.prototype, ShadowRoot.prototype, Element.prototype]) {
  replace(target, "getAnimations", (original) =>
    function getAnimations(...values) {
      const found = original.apply(this, values).filter((of) => !ours.has(of));
      found.forEach(adopt);
      return found;
    });
}
replace(Element.prototype, "animate", (original) =>
  function animate(...values) {
    const made = original.apply(this, values);
    adopt(made);
    return made;
  });
const restart = (name) => {
  replace(Animation.prototype, name, (original) =>
    function (...values) {
      if (!onOurClock(this)) return original.apply(this, values);
      let state = taken(this);
      if (state?.running) {
        animation.set_currentTime(this, position(state));
        if (name === "play") return undefined;
      }
      original.apply(this, values);
      state ??= adopt(this);
      state.rate = animation.get_playbackRate(this);
      if (name === "reverse") {
        // What a reversal is to be is pending until a frame; pausing settles it.
        animation.pause.call(this);
        const at = animation.get_currentTime(this);
        animation.set_currentTime(this, at);
        state.rate = animation.get_playbackRate(this);
      }
      run(this, state, Number(animation.get_currentTime(this) ?? 0));
      return undefined;
    });
};
restart("play");
restart("reverse");
replace(Animation.prototype, "pause", (original) =>
  function pause() {
    const state = taken(this);
    if (!state) {
      original.call(this);
      return;
    }
    const at = state.running ? position(state) : animation.get_currentTime(this);
    original.call(this);
    animation.set_currentTime(this, at ?? 0);
    rest(this, state);
    Object.assign(state, { at: Number(at ?? 0), finished: false });
  });
replace(Animation.prototype, "finish", (original) =>
  function finish() {
    const state = taken(this);
    original.call(this);
    if (!state || state.finished) return;
    rest(this, state);
    state.finished = true;
    state.last = state.rate > 0 ? endOf(this) : 0;
    playback(this, "finish");
    styleEvents(look(this, state), state.last);
  });
replace(Animation.prototype, "cancel", (original) =>
  function cancel() {
    const state = adopt(this);
    const seen = state && look(this, state);
    original.call(this);
    if (!state) return;
    styleEvents(seen, null);
    moving.delete(this);
    states.delete(this);
    playback(this, "cancel");
  });
replace(Animation.prototype, "updatePlaybackRate", (original) =>
  function updatePlaybackRate(rate) {
    const state = taken(this);
    if (state?.running) animation.set_currentTime(this, position(state));
    original.call(this, rate);
    if (!state) return;
    Object.assign(state, { at: state.running ? position(state) : state.at, since: now });
    state.rate = Number(rate);
    wakeFinished(this, state);
  });
const settable = (name, get, set) =>
  replaceAccessor(Animation.prototype, name, (descriptor) => ({
    get() {
      const state = states.get(this);
      return state ? get(this, state) : descriptor.get.call(this);
    },
    ...(set && {
      set(value) {
        const state = taken(this);
        if (state && value !== null) set(this, state, Number(value));
        else descriptor.set.call(this, value);
      },
    }),
  }));
settable("currentTime",
  (of, state) => (state.running ? position(state) : animation.get_currentTime(of)),
  (of, state, at) => {
    if (state.running || state.finished) run(of, state, at);
    else Object.assign(state, { at, since: now });
    animation.set_currentTime(of, at);
  });
settable("startTime",
  (of, state) => ((state.running || state.finished) && state.rate !== 0 ? state.since - state.at / state.rate : null),
  (of, state, start) => run(of, state, (now - start) * state.rate));
settable("playbackRate",
  (of, state) => state.rate,
  (of, state, rate) => {
    Object.assign(state, { at: state.running ? position(state) : state.at, since: now, rate });
    const at = state.finished ? animation.get_currentTime(of) : state.at;
    animation.set_playbackRate(of, rate);
    if (state.finished) wakeFinished(of, state);
    else animation.set_currentTime(of, at);
  });
settable("playState", (of, state) =>
  state.finished ? "finished" : state.running ? "running" : animation.get_playState(of));
settable("pending", () => false);
