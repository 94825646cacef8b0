"""Opens every built page in Chromium at two widths: `python docs/look.py [--pictures FOLDER]`, after `make docs`.

Fails on a page that is wider than the screen, on a table or a picture that does not fit, and on a link to a page or a
heading that does not exist. Needs Chromium with its driver on the machine.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from selenium import webdriver

HTML = Path(__file__).resolve().parent / "_build" / "html"
# Screens of a laptop and of a phone, in CSS pixels.
SCREENS = {"laptop": (1280, 900), "phone": (390, 844)}
# Pages of source code scroll sideways.
LEFT_OUT = ("_modules", "_static", "genindex", "py-modindex", "search")
# Elements whose content sticks out to the right; a block of code scrolls by itself, and hidden parts do not count.
_WIDE = """
const screen = document.documentElement.clientWidth, found = [];
if (document.documentElement.scrollWidth > screen) found.push(["the page", document.documentElement.scrollWidth]);
for (const element of document.querySelectorAll("article table, article img, article svg")) {
  const box = element.getBoundingClientRect(), room = element.closest(".table-wrapper, .cell_output, section");
  const columns = element.rows ? element.rows[0].cells.length : 0;
  // A phone cannot show a table of so many columns at once; it scrolls within the page.
  if (box.width > 0 && box.right > room.getBoundingClientRect().right + 1 && !(screen < 600 && columns > 5))
    found.push([element.tagName.toLowerCase() + ": " + element.textContent.trim().slice(0, 40), box.right]);
}
return found;
"""


class _Page(HTMLParser):
    """The ids and the links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {name for name in (found.get("id"), found.get("name")) if name}
        link = found.get("href" if tag in ("a", "link") else "src")
        if link:
            self.links.append(link)


def broken_links(folder: Path = HTML) -> list[str]:
    """Links within the site whose file or heading does not exist."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
                broken.append(f"{path.relative_to(folder)}: {link}")
    return broken


def main() -> None:
    """Prints every fault, and ends with exit status 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each page")
    pictures = parser.parse_args().pictures
    faults = [f"broken link in {link}" for link in broken_links()]
    names = [path.relative_to(HTML).as_posix() for path in sorted(HTML.rglob("*.html"))]
    pages = [HTML / name for name in names if not name.startswith(LEFT_OUT)]
    if not pages:
        sys.exit("docs/_build/html: expected pages, found none. Run make docs first.")
    for screen, (width, height) in SCREENS.items():
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
            options.add_argument(argument)
        options.add_argument(f"--window-size={width},{height}")
        if screen == "phone":
            metrics = {"width": width, "height": height, "pixelRatio": 1.0}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        # A driver that is not named would be looked up in the network.
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        with webdriver.Chrome(options=options, service=service) as browser:
            for path in pages:
                browser.get(path.as_uri())
                name = path.relative_to(HTML).as_posix()
                for element, right in browser.execute_script(_WIDE):
                    faults.append(f"{name} on a {screen}: {element!r} reaches {right:.0f} of {width} px")
                if pictures:
                    pictures.mkdir(parents=True, exist_ok=True)
                    browser.save_screenshot(str(pictures / f"{screen}-{name.replace('/', '-')}.png"))
    print("\n".join(faults) or f"{len(pages)} pages at {len(SCREENS)} widths: every link leads somewhere, all fits.")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
