"""Checks the pages in a headless Chromium, as people see them.

    python browser.py report FILE.html [--picture FILE.png]
    python browser.py dashboard URL [--picture FILE.png]

Ends with 0 if all is well; else with 1, and says what is not. The Chromium of the machine is used: the one that
SES_BREAKER_CHROMIUM names, or the first of `chromium`, `chromium-browser` and `google-chrome` there is.
"""

import argparse
import http.client
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1200, "height": 900}
# Far longer than anything takes; only a failure waits this long.
SOON = 60_000

wrong: list[str] = []


def check(holds: bool, what: str) -> None:
    if not holds:
        wrong.append(what)


def chromium() -> str:
    named = os.environ.get("SES_BREAKER_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    if not found:
        sys.exit("no Chromium on this machine: install it (Debian and Ubuntu: apt-get install chromium), or name it in SES_BREAKER_CHROMIUM")
    return found


def watched(page: Page, origin: str) -> Page:
    """Records a page's errors, and its requests to other hosts."""
    # The browser's own messages about answers that are refused on purpose are not the page's errors.
    page.on("console", lambda message: check(message.type not in ("error", "warning"), f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: check(False, f"error on the page: {error}"))
    page.on("request", lambda asked: check(asked.url.startswith((origin, "data:")), f"it asks for {asked.url}"))
    page.set_default_timeout(SOON)
    expect.set_options(timeout=SOON)
    return page


def accessible(page: Page, where: str) -> None:
    for violation in Axe().run(page).response["violations"]:
        nodes = "; ".join(node["html"][:200] for node in violation["nodes"][:3])
        check(False, f"{where}: {violation['id']} ({violation['impact']}): {violation['help']}: {nodes}")


def drawn_charts(page: Page) -> list[int]:
    """The number of different colours on each chart."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".uplot canvas")].map((canvas) => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const colours = new Set();
            for (let i = 0; i < data.length; i += 4) colours.add(data[i] << 24 | data[i + 1] << 16 | data[i + 2] << 8 | data[i + 3]);
            return colours.size;
        })"""
    )


def charts_are_drawn(page: Page, where: str, least: int = 2) -> None:
    colours = drawn_charts(page)
    check(len(colours) >= least, f"{where}: {len(colours)} charts")
    check(all(number > 2 for number in colours), f"{where}: a chart is blank: {colours}")
    labels = page.eval_on_selector_all(".uplot", "charts => charts.map(chart => chart.getAttribute('aria-label'))")
    check(all(labels), f"{where}: a chart has no name: {labels}")


def fits(page: Page, where: str) -> None:
    wide, window = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    check(wide <= window, f"{where}: {wide} pixels wide in a window of {window}")


def report(browser, path: Path, picture: str | None) -> None:
    url = path.resolve().as_uri()
    for scheme, size in [("light", DESK), ("dark", DESK), ("light", PHONE)]:
        where = f"{path.name}, {scheme}, {size['width']} pixels"
        page = watched(browser.new_page(viewport=size, color_scheme=scheme), url)
        page.goto(url)
        page.wait_for_selector("body[data-drawn]")
        charts_are_drawn(page, where)
        accessible(page, where)
        fits(page, where)
        if scheme == "light" and size is DESK:
            took = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
            print(f"{path.name}: {path.stat().st_size:,} bytes, loaded and drawn in {took:.0f} ms")
            for command in page.locator("#breakers code").all_inner_texts():
                print(f"COMMAND {command}")
            if picture:
                page.locator("#course").scroll_into_view_if_needed()
                page.locator("#course").screenshot(path=picture)
            by_keyboard(page, where)
            page.locator("#numbers summary").click()
            expect(page.locator("#numbers-table td").first).to_be_visible()
            accessible(page, f"{where}, with the numbers")
            page.emulate_media(media="print")
            page.evaluate("dispatchEvent(new Event('beforeprint'))")
            charts_are_drawn(page, f"{where}, printed")
            check(len(page.pdf()) > 10_000, f"{where}: nothing is printed")
        page.close()


def by_keyboard(page: Page, where: str) -> None:
    """Another key can be chosen without a mouse, and its charts are drawn."""
    page.keyboard.press("Tab")
    check(page.evaluate("document.activeElement.className") == "skip", f"{where}: the first stop is not the skip link")
    before = page.locator(".uplot").first.get_attribute("aria-label")
    page.locator("#key").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    after = page.locator(".uplot").first.get_attribute("aria-label")
    if page.locator("#key option").count() > 1 and page.locator("#key").evaluate("list => list.selectedIndex") > 0:
        check(before != after, f"{where}: choosing another key changes nothing: {after}")


def refused(url: str) -> None:
    """Requests that do not come from the page itself get nothing and change nothing."""
    at = urlsplit(url)
    own = {"Host": at.netloc, "Origin": f"http://{at.netloc}", "Content-Type": "application/json"}
    body = '{"word":"stop","subject":"configuration-set:receipts","isp":null,"reason":"a stranger"}'

    def asked(method: str, path: str, headers: dict, body: str | None = None) -> int:
        line = http.client.HTTPConnection(at.hostname, at.port, timeout=30)
        line.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {**headers, **({"Content-Length": str(len(body))} if body else {})}.items():
            line.putheader(name, value)
        line.endheaders(body.encode() if body else None)
        answer = line.getresponse()
        check(answer.getheader("Content-Security-Policy", "").startswith("default-src 'none'"), f"{path}: no content policy")
        check(answer.getheader("Access-Control-Allow-Origin") is None, f"{path}: others may read it")
        return answer.status

    view, say = f"{at.path}view.json", f"{at.path}say"
    token = at.path.strip("/")
    for what, status, expected in [
        ("no token", asked("GET", "/", {"Host": at.netloc}), 403),
        ("no token, view", asked("GET", "/view.json", {"Host": at.netloc}), 403),
        ("part of the token", asked("GET", f"/{token[:-1]}/view.json", {"Host": at.netloc}), 403),
        ("another token", asked("GET", f"/{token[::-1]}x/view.json", {"Host": at.netloc}), 403),
        ("another host", asked("GET", view, {"Host": "evil.example"}), 403),
        ("another port", asked("GET", view, {"Host": "127.0.0.1:1"}), 403),
        ("another origin", asked("GET", view, {**own, "Origin": "http://evil.example"}), 403),
        ("another site", asked("GET", view, {"Host": at.netloc, "Sec-Fetch-Site": "cross-site"}), 403),
        ("a command without origin", asked("POST", say, {"Host": at.netloc, "Content-Type": "application/json"}, body), 403),
        ("a command of another origin", asked("POST", say, {**own, "Origin": "null"}, body), 403),
        ("a command without token", asked("POST", "/say", own, body), 403),
        ("a form", asked("POST", say, {**own, "Content-Type": "text/plain"}, body), 400),
        ("no reason", asked("POST", say, own, body.replace("a stranger", " ")), 400),
        ("no such command", asked("POST", say, own, body.replace("stop", "delete")), 400),
        ("no such subject", asked("POST", say, own, body.replace("receipts", "receits")), 422),
        ("too much", asked("POST", say, own, "x" * 20_000), 413),
        ("an invalid path", asked("GET", f"{at.path}../../etc/passwd", own), 404),
        ("the view", asked("GET", view, own), 200),
    ]:
        check(status == expected, f"{what}: answered {status}, not {expected}")


def command(page: Page, button: str, reason: str) -> None:
    """Gives a command as a person does, with a reason."""
    page.get_by_role("button", name=button, exact=True).first.click()
    expect(page.locator("#say")).to_be_visible()
    accessible(page, f"dialog of {button}")
    page.locator("#say-yes").click()
    expect(page.locator("#say")).to_be_visible()  # Not without a reason.
    page.locator("#say-reason").fill(reason)
    check(f"'{reason}'" in page.locator("#say-command").inner_text(), "the command line does not show the reason")
    page.locator("#say-yes").click()
    expect(page.locator("#say")).to_be_hidden()
    expect(page.locator("#said")).to_be_visible()
    check(len(page.locator("#said").inner_text()) > 10, f"{button}: the result is not shown")


def dashboard(browser, url: str, picture: str | None) -> None:
    refused(url)
    page = watched(browser.new_page(viewport=DESK), url)
    page.goto(url)
    page.wait_for_selector("body[data-drawn]")
    breakers = page.locator("#breakers")
    row = breakers.locator("tr", has=page.get_by_role("rowheader", name="configuration-set:news", exact=True))
    expect(row.locator(".state.open")).to_be_visible()
    charts_are_drawn(page, "dashboard")
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        accessible(page, f"dashboard, {scheme}")
    fits(page, "dashboard")
    if picture:
        page.screenshot(path=picture)

    page.get_by_role("button", name="Resume configuration-set:news", exact=True).first.click()
    page.keyboard.press("Escape")
    expect(page.locator("#say")).to_be_hidden()
    expect(row.locator(".state.open")).to_be_visible()
    command(page, "Bypass configuration-set:news", "we watch it ourselves")
    expect(row).to_contain_text("bypassed by a person")
    command(page, "Release configuration-set:news", "the list is clean again")
    expect(row).to_have_count(0)
    # Without a gate, a subject without a switch at SES has no button.
    identity = page.locator("#keys-table tr", has=page.get_by_role("rowheader", name="identity:offers.example.com", exact=True))
    expect(identity).to_contain_text("no switch")
    expect(identity.get_by_role("button")).to_have_count(0)

    # A person stops one that is sending, and returns it to its breaker. The page is never reloaded.
    page.evaluate("window.stayed = true")
    command(page, "Act on configuration-set:offers", "wrong list")
    mine = breakers.locator("tr", has=page.get_by_role("rowheader", name="configuration-set:offers", exact=True))
    expect(mine).to_contain_text("stopped by a person")
    command(page, "Release configuration-set:offers", "it was the right one")
    expect(mine).to_have_count(0)
    before = int(page.locator("body").get_attribute("data-drawn"))
    page.wait_for_function("before => Number(document.body.dataset.drawn) > before", arg=before)
    check(page.evaluate("window.stayed") is True, "the page was reloaded")
    fits(page, "dashboard, in the end")
    page.set_viewport_size(PHONE)
    fits(page, "dashboard on a phone")
    accessible(page, "dashboard on a phone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["report", "dashboard"])
    parser.add_argument("where", help="a file, or an address")
    parser.add_argument("--picture", help="write a screenshot to this file")
    asked = parser.parse_args()
    with sync_playwright() as playwright:
        # As root, as in a container, Chromium needs the option for no sandbox.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium(), args=options)
        try:
            if asked.what == "report":
                report(browser, Path(asked.where), asked.picture)
            else:
                dashboard(browser, asked.where, asked.picture)
        finally:
            browser.close()
    if wrong:
        sys.exit("\n".join(dict.fromkeys(wrong)))


if __name__ == "__main__":
    main()
