// Shadow roots, closed ones too: what is in them is moved like the rest.

const roots = new Set();
const addRoot = (root) => {
  if (roots.has(root)) return;
  roots.add(root);
  for (const name of ANIMATION_EVENTS) native.listen.call(root, name, hideNative, true);
};
const connectedRoots = () => (roots.size === 0 ? [] : [...roots].filter(({ host }) => host.isConnected));
const findRoots = (within) => {
  for (const element of within.querySelectorAll("*")) {
    if (element.shadowRoot && !roots.has(element.shadowRoot)) {
      addRoot(element.shadowRoot);
      findRoots(element.shadowRoot);
    }
  }
};
replace(Element.prototype, "attachShadow", (original) =>
  function attachShadow(options) {
    const root = original.call(this, options);
    addRoot(root);
    return root;
  });
