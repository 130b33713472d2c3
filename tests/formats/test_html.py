"""The page of a summary in a real browser: what people see, click and type, and what must not happen."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.formats import html, render
from kvmprobe.formats.host_row import CHECK_IDS
from kvmprobe.judge.features.feature_table import FEATURES
from tests.helpers import screenshot
from tests.helpers.browser import CHROMIUM, Browser
from tests.helpers.counted import NUMBERS
from tests.helpers.fleet_reports import host, lines, readme_fleet
from tests.helpers.many_cpus import many_cpus
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe

HOSTILE = (
    '<img src=x onerror="document.title=\'owned\'"></script><script>document.title="owned"</script>\u2028\x00\ud800'
)
ROWS = "[...document.querySelectorAll('tr.host')]"
NAMES = f"{ROWS}.map((row) => row.querySelector('.label').textContent)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM:
        if os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
            pytest.fail("no chromium, and KVMPROBE_REQUIRE_KERNELS is set")
        pytest.skip("no chromium here")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def page(tmp_path: Path) -> Callable[[list[Any]], str]:
    """Make a page of reports and return its address."""

    def make(reports: list[Any]) -> str:
        target = tmp_path / "page.html"
        done = kvmprobe("summary", "--format", "html", "-o", target, "-", input=lines(reports))
        assert done.returncode in (0, 1, 3), done.stderr
        return target.as_uri()

    return make


@pytest.fixture
def fleet(browser: Browser, page: Callable[[list[Any]], str]) -> Iterator[Browser]:
    """The browser with the page of 48 hosts. In the end the console is empty and nothing was requested."""
    address = page(readme_fleet())
    browser.open(address)
    yield browser
    assert browser.complaints() == []
    assert [one for one in browser.requested() if not one.startswith(address)] == []


def test_it_shows_every_host_and_check(fleet: Browser) -> None:
    assert fleet.run("document.title") == "kvmprobe: 48 hosts"
    assert fleet.run("document.querySelector('h1').textContent") == "48 hosts"
    counts = fleet.run("[...document.querySelectorAll('#verdicts b')].map((one) => +one.textContent)")
    assert sum(counts) == 48
    names = fleet.run(NAMES)
    statuses = fleet.run(f"{ROWS}.map((row) => row.querySelector('.badge').textContent)")
    assert names[: statuses.count("failed")] == ["node-07", "node-12", "node-21", "node-22", "node-29", "node-44"]
    assert set(statuses[: statuses.count("failed")]) == {"failed"}
    assert names[statuses.count("failed")] == "node-38", "the inconclusive one comes next"
    assert sorted(names) == [f"node-{index:02}" for index in range(1, 49)]
    marks = {"P": "pass", "F": "fail", "W": "warn", "S": "skip", "U": "unknown"}
    reports = {report["evidence"]["host"]["name"]: report for report in readme_fleet()}
    ids = fleet.run("[...document.querySelectorAll('thead th.check')].map((cell) => cell.dataset.key)")
    assert ids == [id for id in CHECK_IDS if id in ids]
    cells = fleet.run(
        f"{ROWS}.map((row) => [...row.querySelectorAll('td.check')].map((cell) => [cell.textContent, "
        "cell.querySelector('use')?.getAttribute('href')]))"
    )
    for report, row in zip([reports[name] for name in names], cells):
        stored = {check["id"]: check["status"] for check in report["checks"]}
        assert [text for text, _ in row] == [stored.get(id, "none") for id in ids]
        assert all(text == marks.get(str(symbol)[1:], "none") for text, symbol in row)


def test_every_column_sorts(fleet: Browser) -> None:
    columns = fleet.run("[...document.querySelectorAll('thead th')].map((cell) => cell.dataset.key)")
    for column in columns:
        fleet.click(f"th[data-key='{column}'] .sort")
        assert fleet.run(f"document.querySelector('th[data-key=\"{column}\"]').ariaSort") == "ascending"
        up = fleet.run(NAMES)
        fleet.click(f"th[data-key='{column}'] .sort")
        assert fleet.run(f"document.querySelector('th[data-key=\"{column}\"]').ariaSort") == "descending"
        assert fleet.run("document.querySelectorAll('[aria-sort]').length") == 1
        assert sorted(fleet.run(NAMES)) == sorted(up)
    fleet.click("th[data-key='svme'] .sort")
    first = fleet.run(f"{NAMES}[0]")
    assert first == "node-07", "the worst status comes first"
    fleet.click("th[data-key='host'] .sort")
    fleet.click("th[data-key='host'] .sort")
    assert fleet.run(NAMES) == [f"node-{index:02}" for index in range(48, 0, -1)]
    fleet.click("th[data-key='host'] .sort")
    assert fleet.run("location.hash") == ""


def test_typing_and_clicking_filter(fleet: Browser) -> None:
    everything = fleet.run(NAMES)

    def names_of(query: str) -> Any:
        fleet.key("Escape", 27)
        fleet.run("document.activeElement.blur()")
        fleet.type("/")
        assert fleet.run("document.activeElement.id") == "query"
        fleet.type(query)
        fleet.until(f"new URLSearchParams(location.hash.slice(1)).get('q') === {json.dumps(query)}")
        return fleet.run(NAMES)

    assert names_of("svme:fail") == ["node-07"]
    assert fleet.run("document.getElementById('status').textContent") == "1 of 48 hosts"
    assert names_of("node-1 -node-12") == [f"node-{index}" for index in (*range(10, 12), *range(13, 20))]
    assert names_of("verdict:failed kernel:6.12") == ["node-12", "node-22"]
    assert names_of('reason:"svme-set-by-create-vm" -outlier:yes -kernel:6.1.0') == []
    assert "No host matches" in fleet.run("document.getElementById('table').textContent")
    assert names_of("NODE-07") == ["node-07"]
    assert names_of("(*[\\") == []  # text, not a pattern
    fleet.key("Escape", 27)
    assert fleet.run(NAMES) == everything
    fleet.click("#verdicts button:last-child")
    failed = fleet.run(NAMES)
    are = f"{ROWS}.every((row) => row.querySelector('.badge').textContent === 'failed')"
    assert fleet.run(are)
    assert 0 < len(failed) < 48
    assert fleet.run("document.querySelector('#verdicts button:last-child').ariaPressed") == "true"
    fleet.click("#verdicts button:last-child")
    assert fleet.run(NAMES) == everything
    fleet.click("th[data-key='svme'] .wrong")
    assert fleet.run(NAMES) == ["node-07"]


def test_the_address_keeps_filter_order_and_open_host(fleet: Browser) -> None:
    fleet.click("#verdicts button:last-child")
    fleet.click("th[data-key='kernel'] .sort")
    fleet.click("tr.host:first-child button")
    before = fleet.run(NAMES), fleet.run("document.querySelector('tr.open').textContent")
    address = fleet.run("location.href")
    fleet.open(address)
    assert (fleet.run(NAMES), fleet.run("document.querySelector('tr.open').textContent")) == before


def test_the_registers_of_a_host(fleet: Browser) -> None:
    fleet.click("tr.host:first-child button")
    assert fleet.run("document.querySelector('tr.host:first-child button').ariaExpanded") == "true"
    titles = fleet.run(
        "[...document.querySelectorAll('tr.open figure')].map((one) => [one.querySelector('figcaption').textContent, "
        "...[...one.querySelectorAll('rect title')].map((title) => title.textContent)])"
    )
    snapshots = host("", "matrix/bookworm/svme-not-set")["evidence"]["snapshots"]
    assert [one[0] for one in titles] == ["EFER.SVME by CPU", "VM_CR.SVMDIS by CPU", "VM_HSAVE_PA by CPU"]
    wanted = [
        (f"cpu{cpu}, {snapshot['phase']}: {registers['EFER']}", int(registers["EFER"], 16) >> 12 & 1)
        for snapshot in snapshots
        for cpu, registers in snapshot["cpus"].items()
    ]
    assert titles[0][1:] == [f"{text} (SVME is {bit})" for text, bit in wanted]
    looks = fleet.run(
        "[...document.querySelectorAll('tr.open figure:nth-of-type(1) rect')].map((one) => one.getAttribute('class'))"
    )
    assert looks == ["r-on" if bit else "r-off" for _, bit in wanted]
    label = fleet.run("document.querySelector('tr.open svg[role=img]').ariaLabel")
    assert "; created: SVME is 1 on 1 CPU, SVME is 0 on 1 CPU; " in label
    text = fleet.run("document.querySelector('tr.open').textContent")
    verdict = host("", "matrix/bookworm/svme-not-set")["verdict"]
    assert verdict["summary"] in text
    assert verdict["hint"] in text
    fleet.click("tr.host:first-child button")
    assert fleet.run("document.querySelector('tr.open')") is None


def test_the_keyboard_alone_opens_a_host(fleet: Browser) -> None:
    fleet.run("document.querySelector('th[data-key=host] .sort').focus()")
    for _ in range(60):
        fleet.key("Tab", 9)
        if fleet.run("document.activeElement.closest('tr.host') !== null"):
            break
    assert fleet.run("document.activeElement.querySelector('.label').textContent") == fleet.run(f"{NAMES}[0]")
    fleet.key("Enter", 13)
    fleet.until("document.querySelector('tr.open') !== null")
    width = fleet.run("parseFloat(getComputedStyle(document.activeElement).outlineWidth)")
    assert width >= 2, "the focus is visible"


CONTRAST = """(() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || element.closest("script, style, noscript, svg, .unseen, [hidden]") || !element.checkVisibility()) continue;
    found.push([ratio(parse(getComputedStyle(element).color), ground(element)), 4.5, walk.currentNode.data.slice(0, 40)]);
  }
  for (const cell of document.querySelectorAll(".cell svg")) found.push([ratio(parse(getComputedStyle(cell).color), ground(cell.parentElement)), 4.5, cell.outerHTML]);
  for (const rect of document.querySelectorAll("tr.open rect + text, .key rect + text")) {
    const fill = getComputedStyle(rect.previousElementSibling).fill;
    if (fill.startsWith("rgb")) found.push([ratio(parse(getComputedStyle(rect).fill), parse(fill)), 4.5, rect.outerHTML]);
  }
  return [found.length, found.filter(([is, least]) => is < least), Math.min(...found.map(([is]) => is))];
})()"""  # noqa: E501


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast_in_each_theme(fleet: Browser, dark: bool) -> None:
    fleet.dark(dark)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = "rgb(246, 247, 249)"
    fleet.until(f"({ground} === '{light}') === {json.dumps(not dark)}")
    fleet.click("tr.host:nth-child(12) button")
    number, poor, least = fleet.run(CONTRAST)
    assert number > 300
    assert poor == []
    NUMBERS.append(f"page: least contrast {least:.2f} of {number} texts and symbols, {'dark' if dark else 'light'}")
    seen = [fleet.run(ground)]
    for name in ("light", "dark", "auto"):
        fleet.click("#theme")
        assert fleet.run("document.getElementById('theme').textContent") == f"Theme: {name}"
        seen.append(fleet.run(ground))
    assert seen == [seen[0], light, seen[2], seen[0]]
    assert seen[2] != light


def test_colour_is_not_the_only_sign_of_a_status(fleet: Browser) -> None:
    """Each status has its own symbol and a word."""
    kinds = fleet.run(
        "[...document.querySelectorAll('#legend li')]"
        ".map((one) => [one.querySelector('use').href.baseVal, one.textContent])"
    )
    assert len({symbol for symbol, _ in kinds}) == len(kinds) == 5
    assert [word for _, word in kinds] == ["pass", "fail", "warn", "skip", "unknown"]
    drawn = fleet.run("[...document.querySelectorAll('symbol path')].map((one) => one.getAttribute('d'))")
    assert len(set(drawn)) == len(drawn)


def test_hostile_text_stays_text(browser: Browser, page: Callable[[list[Any]], str]) -> None:
    report = host(HOSTILE, "matrix/bookworm/svmdis", microcode=HOSTILE, model_name=HOSTILE[:190])
    evidence = report["evidence"]
    evidence["kernel"]["release"] = evidence["kernel"]["lockdown"] = HOSTILE
    report["verdict"]["summary"] = report["verdict"]["hint"] = HOSTILE
    for check in report["checks"]:
        check["message"] = HOSTILE
    for snapshot in evidence["snapshots"]:
        for registers in snapshot["cpus"].values():
            registers["EFER"] = {"error": HOSTILE}
    crowd = [host(f"{HOSTILE}{index}", model_name=HOSTILE[:190]) for index in range(12)]
    for one in crowd:
        one["evidence"]["kernel"]["release"] = HOSTILE
    address = page([report, *crowd])
    browser.open(address)
    browser.click("tr.host button")
    browser.click("#outliers .who")
    assert browser.run(f"{ROWS}.length") == 1
    browser.key("Escape", 27)
    browser.click("#counts div:nth-child(2) button.value")
    assert browser.run(f"{ROWS}.length") == 13
    assert browser.run("document.title") == "kvmprobe: 13 hosts"
    assert (
        browser.run("document.querySelectorAll('img, body script:not(#data):not(:last-of-type), iframe').length") == 0
    )
    assert "<img src=x" in browser.run("document.querySelector('tr.host .label').textContent")
    assert browser.complaints() == []
    assert browser.requested() == [address]


def test_the_policy_forbids_every_other_resource(browser: Browser, page: Callable[[list[Any]], str]) -> None:
    """A script that runs in the page can load nothing and send nothing."""
    browser.open(page(readme_fleet()[:2]))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = "http" + f"://127.0.0.1:{server.getsockname()[1]}/"
        fetched = browser.run(f"fetch('{url}').then(() => 'loaded', () => 'refused')")
        shown_image = browser.run(
            "new Promise((done) => { const image = new Image(); image.onload = () => done('loaded'); "
            f"image.onerror = () => done('refused'); image.src = '{url}x.png'; }})"
        )
        ran = browser.run(
            "(() => { const script = document.createElement('script'); script.textContent = 'window.ran = 1'; "
            "document.body.append(script); return window.ran ? 'ran' : 'refused'; })()"
        )
        assert (fetched, shown_image, ran) == ("refused", "refused", "refused")
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_page_names_no_address(page: Callable[[list[Any]], str]) -> None:
    text = Path(page(readme_fleet()).removeprefix("file://")).read_text()
    assert "://" not in text
    assert not re.search(r"\son\w+=|style=|javascript:", text)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")


def test_one_of_several_reports_with_a_name_stays_open(browser: Browser, tmp_path: Path) -> None:
    reports = [host("same", like) for like in ("matrix/bookworm/epyc", "matrix/bookworm/svmdis")]
    kvmprobe("summary", "--all", "--format", "html", "-o", tmp_path / "p.html", "-", input=lines(reports))
    browser.open((tmp_path / "p.html").as_uri())
    for _ in reports:
        browser.run("document.querySelector('tr.host [aria-expanded=\"false\"]').click()")
        before = browser.run("document.querySelector('tr.open .verdict').textContent")
        browser.click("th[data-key='verdict'] .sort")
        assert browser.run("document.querySelector('tr.open .verdict').textContent") == before
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [400, 1400])
def test_no_name_is_cut(browser: Browser, page: Callable[[list[Any]], str], width: int) -> None:
    names = ["node-1", "compute-0117.rack-12.datacentre-3.cloud.example.com", "n" * 255]
    browser.open(page([host(name) for name in names]), width=width)
    cut = f"{ROWS}.map((row) => row.querySelector('.label')).filter((one) => one.scrollWidth > one.clientWidth)"
    assert browser.run(f"{cut}.length") == 0
    assert browser.run(f"{ROWS}.every((row) => row.querySelector('.label').getClientRects().length > 0)")
    # Short names stay in one line, and the first check is in the window beside every name.
    heights = browser.run(f"{ROWS}.map((row) => row.querySelector('.label').getBoundingClientRect().height)")
    assert heights[2] < 25
    assert browser.run("document.querySelector('td .badge').getBoundingClientRect().right") < width
    assert browser.complaints() == []


@pytest.mark.parametrize(("number", "width"), [(1, 1400), (1, 360), (20, 360), (1200, 1400)])
def test_it_fits_narrow_windows_and_many_hosts(
    browser: Browser, page: Callable[[list[Any]], str], number: int, width: int
) -> None:
    fleet = [
        host(f"{one['evidence']['host']['name']}-{index}", "matrix/bookworm/four-cpus")
        for index, one in zip(range(number), readme_fleet() * 26)
    ]
    browser.open(page(fleet), width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width, "the page does not scroll sideways"
    rows = browser.run(f"{ROWS}.length")
    assert rows == (number if number < 1000 else rows) > 0
    if number > 1000:
        assert rows < 600, "rows are made when they come into view"
        browser.run("document.getElementById('scroll').scrollTo(0, 1e6)")
        browser.until(f"{ROWS}.length > {rows}")
        browser.type("/")
        browser.type("node-48-1199")
        browser.until("document.getElementById('status').textContent.startsWith('1 of')")
        assert browser.run(NAMES) == ["node-48-1199"]
    if number == 1:
        assert browser.run("document.querySelectorAll('tr.open').length") == 1
    assert browser.complaints() == []


@pytest.mark.parametrize("difference", ["EFER of every CPU", "SVME of every other CPU"])
def test_a_host_with_thousands_of_cpus_stays_usable(browser: Browser, tmp_path: Path, difference: str) -> None:
    """A square stands for several CPUs, and shows the value of the fewest: one of 4,096 CPUs is not lost."""
    report = many_cpus(4096, difference)
    report["evidence"]["snapshots"][1]["cpus"]["2049"]["VM_CR"] = "0x10"
    (tmp_path / "page.html").write_text(html.render(report))
    browser.open((tmp_path / "page.html").as_uri())
    assert browser.run("document.querySelectorAll('*').length") < 10_000
    assert browser.run("document.documentElement.scrollWidth") <= 1400
    assert browser.run("document.querySelector('table.values').offsetHeight") < 2000
    titles = browser.run(
        "[...document.querySelectorAll('tr.open figure:nth-of-type(2) rect title')].map((one) => one.textContent)"
    )
    assert [title for title in titles if "SVMDIS is 1" in title] == ["cpu2048-2051, created: 0x10 (SVMDIS is 1)"]
    assert browser.complaints() == []


def test_printing_shows_every_row(fleet: Browser) -> None:
    fleet.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert fleet.run("getComputedStyle(document.getElementById('theme')).display") == "none"
        assert fleet.run("getComputedStyle(document.getElementById('scroll')).overflow") == "visible"
        assert len(fleet.call("Page.printToPDF", printBackground=True, landscape=True)["data"]) > 10000
    finally:
        fleet.call("Emulation.setEmulatedMedia", media="")


def test_the_page_of_one_report(browser: Browser, tmp_path: Path) -> None:
    target = tmp_path / "one.html"
    kvmprobe("judge", EVIDENCE / "matrix/trixie/four-cpus.json", "--format", "html", "-o", target)
    browser.open(target.as_uri(), dark=True)
    assert browser.run("document.querySelector('h1').textContent") == "kvmprobe-lab"
    assert browser.run("document.querySelectorAll('tr.open rect').length") >= 3 * 3 * 4
    rows = browser.run("[...document.querySelectorAll('.features tr')].map((row) => row.textContent)")
    assert rows[0] == "featureCPUallowedkernelparameterofferedin effect"
    assert "nptyesyesyesY?yes" in rows
    assert len(rows) == 1 + len(FEATURES)
    assert browser.complaints() == []


def test_the_picture_in_the_readme_can_be_made(browser: Browser, tmp_path: Path) -> None:
    picture = screenshot.take(browser, tmp_path)
    kept = (PROJECT / "docs/summary.png").read_bytes()
    for png in (picture, kept):
        assert struct.unpack(">II", png[16:24]) == (screenshot.WIDTH, screenshot.HEIGHT)
    assert len(kept) < 200_000
    assert browser.run("document.querySelector('tr.open .verdict').textContent") == "failed svme-not-set"
    assert browser.complaints() == []


def test_the_page_is_ascii_and_its_policy_has_the_hashes_of_its_parts() -> None:
    """Every locale writes the same bytes, which are those that the policy has the hashes of."""
    text = render(json.loads((EVIDENCE / "matrix/trixie/four-cpus.json").read_text()), "html")
    assert text.isascii()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    style, script = re.search(r"<style>(.*?)</style>", text, re.S), re.findall(r"<script>(.*?)</script>", text, re.S)
    assert policy
    assert style
    assert len(script) == 1
    for part in (style[1], script[0]):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]
    folder = PROJECT / "kvmprobe/formats/page"
    for path in folder.glob("*.js"):
        assert script[0].count(path.read_text()) == 1, f"{path.name} is not in the page"
        assert len(path.read_text().splitlines()) < 200


def test_a_usable_host_looks_as_good_as_a_confirmed_one(browser: Browser, tmp_path: Path) -> None:
    report = host("usable-host")
    report["verdict"].update(status="usable", reason="guest-ran")
    target = tmp_path / "usable.html"
    target.write_text(render(report, "html"))
    browser.open(target.as_uri())
    assert browser.run("document.querySelector('tr.host .badge').textContent") == "usable"
    assert browser.run("document.querySelector('tr.open .verdict').textContent") == "usable guest-ran"
    good, usable = (
        browser.run(
            f"(() => {{ const e = document.createElement('span'); e.className = 'badge b-{name}'; "
            "document.body.append(e); return getComputedStyle(e).backgroundColor; })()"
        )
        for name in ("confirmed", "usable")
    )
    assert usable == good != "rgba(0, 0, 0, 0)"
    assert browser.complaints() == []
