// The map: land as a grid of dots (2.5 degrees; from Natural Earth's public-domain land, 57.5° S to 80° N), regions as
// dots by latitude and longitude (equirectangular), links as arcs.
const LAND = `
000000133fcfffff000700000000c0000000 00000129900fffff00000000e001f8000000 000003c034003fff00000006007ff8008000
8040017c6fe01ffe000000061dfffff7f800 f800002bc4c7e007fffe01fa140000000000 0c00000003c1e03fbff802c0000000000000
00fffffff51c1f00800f7ffffffffffffffe 03ffffffc0600e00003e7ffffffffffffef8 01e07fffe07a0000003e7fffffffffff8080
00801ffff87e00000214fffffffffffe0380 00000ffffeff80000d1fffffffffffff0300 000007ffffffc00003ffffffffffffff0000
000003fffff4e00003ffffffffffffff0000 000003fffffc000001fff5f7fffffffe0000 000003fffff0000001ebe0effffffffc4000
000003ffffe000000f86f6f3fffffff08000 000001ffffc000000f029ff3fffffe208000 000001ffffc0000000f007ffffffff130000
0000007fff80000007f003ffffffff040000 0000005ffe0000000ffeebffffffff800000 0000003fc10000000fffffefffffff800000
0000000f810000003ffffdf3ffffff000000 00000007800000003ffffdfe1ffffe800000 00000003880000007ffffeff0fe7e0000000
00000003d81800003ffffefe07c3d0000000 00000000780000007fffff780781e0800000 000000000e0000007fffffe00301f0c00000
00000000002800003fffff90030160000000 00000000017f00001ffffff0000100200000 00000000007f80000fbffff0008080000000
00000000007ff000000fffe0000186000000 0000000000fff000000fffc00000ce000000 0000000000fffc00000fff800000ce8c0000
0000000000ffff80000fff0000004083c000 0000000000ffffc00007ff0000002001e000 0000000000ffffc00007ff00000001a08000
00000000007fff800007ff00000000000000 00000000007fff000007ff100000000c0000 00000000001fff000007ff300000007e4000
00000000000fff000007fc300000007fe000 00000000000fff000007fc60000003fff000 00000000000ffc000003fc60000007fff000
00000000000ff8000003f800000007fff800 00000000001ff0000001f800000003fff800 00000000001ff0000001f000000003fff800
00000000001fe0000001c000000003c3f800 00000000001f80000000000000000000f000 00000000001f000000000000000000002002
00000000003c000000000000000000002004 00000000001c000000000000000000000008 000000000038000000000000000000000010
000000000038000000000000000000000000 000000000030800000000000000000000000 000000000018000000000000000000000000
000000000000000000000000000000000000
`.trim().split(/\s+/);
const STEP = 2.5, NORTH = 80, SCALE = 2, WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const x = (longitude) => (longitude + 180) * SCALE;
const y = (latitude) => (NORTH - latitude) * SCALE;

function node(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function land() {
  let path = "";
  LAND.forEach((row, line) => {
    const bits = [...row].map((digit) => parseInt(digit, 16).toString(2).padStart(4, "0")).join("");
    for (let at = 0; at < bits.length; at++) {
      if (bits[at] === "1") path += `M${(at + 0.5) * STEP * SCALE - 1.7} ${(line + 0.5) * STEP * SCALE}a1.7 1.7 0 1 0 3.4 0a1.7 1.7 0 1 0 -3.4 0`;
    }
  });
  return node("path", { class: "land", d: path });
}

function arc(from, to) {
  const [x1, y1, x2, y2] = [x(from.longitude), y(from.latitude), x(to.longitude), y(to.latitude)];
  const lift = Math.hypot(x2 - x1, y2 - y1) * 0.22;
  return `M${x1} ${y1}Q${(x1 + x2) / 2} ${Math.max(4, (y1 + y2) / 2 - lift)} ${x2} ${y2}`;
}

/** Places for labels, pushed down where two would overlap. */
function labels(regions) {
  const taken = [];
  return [...regions].sort((a, b) => b.latitude - a.latitude).map((region) => {
    const left = x(region.longitude) > 560;
    const label = { region, left, x: x(region.longitude) + (left ? -9 : 9), y: y(region.latitude) + 4 };
    while (taken.some((other) => Math.abs(other.y - label.y) < 29 && Math.abs(other.x - label.x) < 130)) label.y += 4;
    taken.push(label);
    return label;
  });
}

export function drawMap(svg, regions) {
  if (!svg.firstChild) svg.append(land());
  svg.replaceChildren(svg.firstChild);
  const byName = new Map(regions.map((region) => [region.region, region]));
  for (const region of regions) {
    for (const link of region.links) {
      const source = byName.get(link.source);
      if (!source) continue;
      const drawn = node("path", { class: `link ${link.state}`, d: arc(source, region) });
      drawn.append(node("title", {}, `${link.source} → ${region.region}: ${link.state}, ${WHOLE.format(link.rate_eps)} events/s`));
      svg.append(drawn);
    }
  }
  for (const region of regions) {
    svg.append(node("circle", { class: `region ${region.state}`, cx: x(region.longitude), cy: y(region.latitude), r: 5.5 }));
  }
  for (const label of labels(regions)) {
    const anchor = label.left ? "end" : "start";
    const text = node("text", { x: label.x, y: label.y, "text-anchor": anchor }, label.region.region);
    text.append(node("tspan", { class: "load", x: label.x, dy: 14 }, `${WHOLE.format(label.region.load_eps)} events/s`));
    svg.append(text);
  }
  const told = regions.map((r) => `${r.region} ${r.state}, ${r.instances} instances, ${WHOLE.format(r.load_eps)} events/s`);
  svg.setAttribute("aria-label", `Map of the regions: ${told.join("; ") || "none known"}`);
}
