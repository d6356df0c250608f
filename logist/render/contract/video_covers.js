// A video reaches the screen on a way of its own, now and then later than the rest of its frame. So its picture is
// shown as its background, which comes with the rest, and itself is moved out of its box.
const covers = new WeakMap();
const HEADER = 122; // bytes before the pixels of a bitmap
const BACKGROUND_SIZES = { fill: "100% 100%", contain: "contain", cover: "cover", none: "auto" };
const bitmapHeader = (width, height) => {
  const header = new DataView(new ArrayBuffer(HEADER));
  const size = HEADER + 4 * width * height;
  const words = [[2, size], [10, HEADER], [14, 108], [18, width], [22, -height], [30, 3], [34, 4 * width * height]];
  const masks = [[54, 0xff], [58, 0xff00], [62, 0xff0000], [66, 0xff000000], [70, 0x73524742]];
  header.setUint16(0, 0x424d);
  header.setUint16(26, 1, true);
  header.setUint16(28, 32, true);
  for (const [at, word] of [...words, ...masks]) header.setUint32(at, word, true);
  return header;
};
// null: another site's, and not to be had.
const pictureOf = (video) => {
  const { videoWidth: width, videoHeight: height } = video;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  native.draw.call(context, video, 0, 0, width, height);
  try {
    const { data } = context.getImageData(0, 0, width, height);
    return new Uint32Array(data.buffer);
  } catch (error) {
    if (error.name !== "SecurityError") throw error;
    return null;
  }
};
const areAlike = (one, other) => {
  let index = 0;
  while (index < one.length && one[index] === other[index]) index += 1;
  return one.length === other.length && index === one.length;
};
const coverOf = (video) => {
  let cover = covers.get(video);
  if (!cover) {
    // An animation, not a style of the element: it starts no transitions, and is nothing that a page would read.
    const over = native.animate.call(video, [], { duration: 1, fill: "both" });
    ours.add(over);
    animation.pause.call(over);
    cover = { over, picture: new Uint32Array(0), image: null, address: "" };
    covers.set(video, cover);
  }
  return cover;
};
const coverVideo = async (video) => {
  const picture = pictureOf(video);
  if (picture === null) return;
  const cover = coverOf(video);
  const before = cover.address;
  if (!areAlike(cover.picture, picture)) {
    // Not as text in its address, all of which the browser would tell with each request.
    const bitmap = [bitmapHeader(video.videoWidth, video.videoHeight), picture];
    cover.address = native.createObjectURL(new native.Blob(bitmap, { type: "image/bmp" }));
    cover.image = new native.Image();
    setSource.call(cover.image, cover.address);
    await native.decode.call(cover.image);
    cover.picture = picture;
  }
  cover.over.effect.setKeyframes([]);
  const { objectFit, objectPosition, width, height } = getComputedStyle(video);
  const fits = video.videoWidth <= parseFloat(width) && video.videoHeight <= parseFloat(height);
  const shown = {
    backgroundImage: `url("${cover.address}")`,
    backgroundSize: BACKGROUND_SIZES[objectFit] ?? (fits ? "auto" : "contain"),
    backgroundPosition: objectPosition,
    backgroundOrigin: "content-box",
    backgroundClip: "content-box",
    backgroundRepeat: "no-repeat",
    objectPosition: "-100000px -100000px",
  };
  cover.over.effect.setKeyframes([shown, shown]);
  if (before && before !== cover.address) native.revokeObjectURL(before);
};
const coverVideos = async () => {
  for (const video of mediaElements()) {
    if (!(video instanceof HTMLVideoElement) || !video.isConnected || !video.videoWidth) continue;
    if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && video.checkVisibility()) await coverVideo(video);
  }
};
