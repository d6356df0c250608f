// SVG's own animations (SMIL).

const SMIL = ["animate", "animateTransform", "animateMotion", "set"];
const smilElements = SMIL.map((name) => document.getElementsByTagName(name));
const svgBegan = new WeakMap();
const placeSvg = (svg) => {
  if (svg.ownerSVGElement !== null) return;
  if (!svgBegan.has(svg)) svgBegan.set(svg, now);
  svg.pauseAnimations();
  svg.setCurrentTime((now - svgBegan.get(svg)) / 1000);
};
const placeSvgs = () => {
  if (smilElements.some(({ length }) => length > 0)) document.querySelectorAll("svg").forEach(placeSvg);
  for (const root of connectedRoots()) {
    if (root.querySelector(SMIL.join()) !== null) root.querySelectorAll("svg").forEach(placeSvg);
  }
};
