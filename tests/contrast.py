"""Contrast of what a page shows, as WCAG 2.2 measures it, of the colours that the browser has computed."""

from playwright.sync_api import Page

TOO_FAINT = """
() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const over = (front, back) => {
    const alpha = front.length > 3 ? front[3] : 1;
    return [0, 1, 2].map(i => front[i] * alpha + back[i] * (1 - alpha));
  };
  const backdrop = element => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      layers.push(colour);
      if (colour.length === 3 || colour[3] === 1) break;
    }
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    return layers.reverse().reduce((back, front) => over(front, back), dark ? [18, 18, 18] : [255, 255, 255]);
  };
  const luminance = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (front, back) => {
    const [high, low] = [luminance(over(front, back)), luminance(back)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [];
  let looked = 0;
  const look = (element, what, colour, back, least) => {
    looked += 1;
    const measured = ratio(numbers(colour), back);
    if (measured < least) found.push(`${what} ${measured.toFixed(2)} < ${least}: ${element.outerHTML.slice(0, 100)}`);
  };
  for (const element of document.querySelectorAll("body, body *")) {
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (style.visibility === "hidden" || style.display === "none" || box.width === 0) continue;
    const says = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    const isField = ["INPUT", "SELECT", "TEXTAREA"].includes(element.tagName) && element.type !== "image";
    const isDrawn = element instanceof SVGElement;
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 600);
    if ((says || isField) && element.tagName !== "TITLE" && element.tagName !== "title") {
      look(element, "text", isDrawn ? style.fill : style.color, backdrop(element), large ? 3 : 4.5);
    }
    if (isField) look(element, "border", style.borderTopColor, backdrop(element.parentElement), 3);
    if (isDrawn && element.tagName === "path" && style.stroke !== "none") {
      look(element, "line", style.stroke, backdrop(element), 3);
    }
  }
  return {found, looked};
}
"""
"""What is below 4.5 : 1 for text, 3 : 1 for large text, for the borders of fields and for lines that are drawn."""


def too_faint(page: Page) -> list[str]:
    """What on a page has too little contrast; raises where there was nothing to look at."""
    measured = page.evaluate(TOO_FAINT)
    assert measured["looked"] > 5, page.url
    return list(measured["found"])
