"""The page in a real browser: drawn from disk, asked of nobody, safe whatever the files say."""

import csv
import json
import time
from pathlib import Path

import pytest
from _support.report_cases import wanted

from isotune.present.page import make_report

WIDE, PHONE = (1100, 800), (375, 812)
HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    '"><img src=x onerror=window.hacked=1>',
    "<a href='https://evil.example/'>click</a>",
    "<!--<script>{{ 7 * 7 }}%{x}${y}",
    "&lt;b&gt;=1+1",
]


class Tab:
    """The browser's one tab."""

    def __init__(self, browser):
        self.driver = browser

    def open(self, path, size=WIDE, scheme="light"):
        self.size(size)
        self.scheme(scheme)
        self.driver.get(path.as_uri())
        self.wait("return document.documentElement.dataset.drawn")

    def size(self, size):
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name):
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, script, seconds=90.0):
        until = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < until, f"never true: {script}"
            time.sleep(0.05)
        return found

    def console(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        logged = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        sent = [m["params"] for m in logged if m["method"] == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]


@pytest.fixture
def tab(browser):
    found = Tab(browser)
    found.console()
    found.requests()
    return found


@pytest.fixture(scope="module")
def page(saved_results, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(
        make_report([saved_results[kind] for kind in wanted(saved_results)], "All of it").html
    )
    return path


MARKS = ".scatterlayer path, .barlayer path, .heatmaplayer image"
DRAWN = """
const MARKS = arguments[0];
return [...document.querySelectorAll("figure")].map((figure) => {
  const sizes = [...figure.querySelectorAll(MARKS)].map((mark) => mark.getBoundingClientRect());
  return [figure.id, sizes.filter((box) => box.width + box.height > 2).length];
})
"""


def test_it_opens_from_disk_draws_every_figure_and_asks_nobody(tab, page):
    tab.open(page)
    drawn = dict(tab.run(DRAWN, MARKS))
    assert len(drawn) == int(tab.run("return document.documentElement.dataset.drawn")) > 12
    assert all(drawn.values()), drawn
    assert tab.console() == []
    asked = [url for url in tab.requests() if not url.startswith(("data:", "blob:"))]
    assert asked == [page.as_uri()]


def test_every_view_of_every_figure_can_be_drawn(tab, page):
    tab.open(page)
    views = tab.run(
        """
        const shown = [];
        for (const select of document.querySelectorAll(".view select")) {
          const figure = select.closest("figure");
          for (const option of select.options) {
            select.value = option.value;
            select.dispatchEvent(new Event("change"));
            const marks = figure.querySelectorAll(arguments[0]);
            shown.push([figure.id, option.textContent, marks.length]);
          }
        }
        return shown;
        """,
        MARKS,
    )
    assert len(views) > 6
    assert all(marks for _, _, marks in views), views
    assert tab.console() == []


def test_a_step_under_the_mouse_tells_its_times(tab, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    tab.open(page)
    timeline = next(
        figure
        for figure in tab.driver.find_elements(By.TAG_NAME, "figure")
        if "One block in time" in figure.text
    )
    bar = timeline.find_element(By.CSS_SELECTOR, ".barlayer .point path")
    tab.run("arguments[0].scrollIntoView({block: 'center'})", bar)
    ActionChains(tab.driver).move_to_element(bar).perform()
    tab.wait("return document.querySelector('.hoverlayer .hovertext')")
    text = timeline.find_element(By.CSS_SELECTOR, ".hoverlayer").text
    assert "attention, block" in text
    assert "takes" in text


def column(tab, table, place):
    script = """
    const rows = [...arguments[0].tBodies[0].rows];
    return rows.map((row) => Number(row.cells[arguments[1]].dataset.value));
    """
    return tab.run(script, table, place)


def test_tables_sort_by_mouse_and_by_keyboard(tab, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    tab.open(page)
    table = next(
        table
        for table in tab.driver.find_elements(By.CSS_SELECTOR, "section.table table")
        if "technique" in table.text
    )
    heads = table.find_elements(By.CSS_SELECTOR, "thead th")
    at, head = next((at, one) for at, one in enumerate(heads) if "latency" in one.text)
    control = head.find_element(By.TAG_NAME, "button")
    tab.run("arguments[0].scrollIntoView({block: 'center'})", control)
    control.click()
    found = column(tab, table, at)
    assert found == sorted(found)
    assert len(set(found)) > 3
    assert head.get_attribute("aria-sort") == "ascending"
    control.send_keys(Keys.ENTER)
    assert column(tab, table, at) == sorted(found, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"


def test_the_data_behind_a_picture_is_shown_and_downloaded(tab, page, tmp_path):
    tab.open(page)
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    tab.driver.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    title = tab.run(
        """
        const figure = [...document.querySelectorAll("figure")]
          .find((one) => one.textContent.includes("Saving against prompt length"));
        figure.querySelector("details").open = true;
        figure.querySelector(".download").click();
        return figure.querySelector("h3").textContent;
        """
    )
    assert title == "Saving against prompt length"
    until = time.monotonic() + 10
    while not (files := list(tmp_path.glob("*.csv"))):
        assert time.monotonic() < until
        time.sleep(0.05)
    rows = list(csv.reader(files[0].read_text().splitlines()))
    assert rows[0][:3] == ["curve", "prompt (tokens)", "saving (%)"]
    shown = tab.wait("return document.querySelector('details[open] tbody')?.rows.length")
    assert shown == len(rows) - 1


def test_it_follows_the_colour_scheme_and_a_button_turns_it(tab, page):
    look = """
    const text = document.querySelector(".plot .xtick text");
    const paper = getComputedStyle(document.documentElement).backgroundColor;
    return [paper, getComputedStyle(text).fill];
    """
    seen = {}
    for scheme in ("light", "dark"):
        tab.open(page, scheme=scheme)
        seen[scheme] = tab.run(look)
    assert seen["light"][0] == "rgb(255, 255, 255)"
    assert seen["dark"][0] == "rgb(20, 24, 29)"
    assert seen["dark"][1] != seen["light"][1]
    tab.run("document.getElementById('theme').click()")
    light = json.dumps(seen["light"])
    tab.wait(f"return JSON.stringify((() => {{{look}}})()) === JSON.stringify({light})")


def test_a_phone_needs_no_sideways_scrolling(tab, page):
    tab.open(page, PHONE)
    assert tab.run("return document.documentElement.scrollWidth") <= PHONE[0]
    wide = tab.run(
        """
        return [...document.querySelectorAll(".plot .main-svg, .verdict, dl, figure")]
          .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
          .map((one) => one.className.baseVal || one.className || one.tagName);
        """
    )
    assert wide == []
    tab.size(WIDE)
    tab.wait("return document.querySelector('.plot .main-svg').getBoundingClientRect().width > 900")


def test_paper_is_light_and_shows_whole_tables(tab, page):
    tab.open(page, scheme="dark")
    tab.run("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.run("return document.documentElement.dataset.theme") == "light"
    width = "return document.querySelector('.plot .main-svg').getBoundingClientRect().width"
    assert tab.wait(f"{width} < 700")
    tab.run("window.dispatchEvent(new Event('afterprint'))")
    assert tab.run("return document.documentElement.dataset.theme") == "dark"


def hostile(saved_results, tmp_path) -> list[Path]:
    """Results whose every name from outside is an attack."""
    search = json.loads(saved_results["search"].read_text())
    search |= {"model": HOSTILE[0], "hardware": HOSTILE[1], "command": f"isotune {HOSTILE[2]}"}
    search |= {"cautions": HOSTILE}
    for technique, name in zip(search["techniques"], HOSTILE, strict=False):
        technique["name"] = name
    search["by_length"][0]["name"] = HOSTILE[2]
    check = json.loads(saved_results["check"].read_text())
    check |= {"hw": HOSTILE[1], "table": HOSTILE[0], "unscored": {HOSTILE[3]: 1}}
    for row, name in zip(check["rows"], HOSTILE, strict=False):
        row["row"] = name
    for group, name in zip(check["groups"], HOSTILE, strict=False):
        group["group"] = name
    sensitivity = json.loads(saved_results["sensitivity"].read_text()) | {"model": HOSTILE[1]}
    files = {"search": search, "check": check, "sensitivity": sensitivity}
    paths = [tmp_path / f"{name}.json" for name in files]
    for path, data in zip(paths, files.values(), strict=True):
        path.write_text(json.dumps(data))
    table = tmp_path / "<img src=x>.csv"
    lines = saved_results["table"].read_text().splitlines()
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(next(csv.reader(lines[:1])))
        for number, row in enumerate(csv.reader(lines[1:])):
            writer.writerow([HOSTILE[number % len(HOSTILE)], HOSTILE[0], *row[2:]])
    return [*paths, table]


def test_names_from_files_say_what_they_say_and_do_nothing(tab, saved_results, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(make_report(hostile(saved_results, tmp_path), HOSTILE[0]).html)
    tab.open(path)
    tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tab.wait(
        "return [...document.querySelectorAll('details .scroll')].every((one) => one.firstChild)"
    )
    assert tab.run("return window.hacked === undefined")
    assert tab.run("return document.querySelectorAll('img, iframe, main script').length") == 0
    links = "return [...document.querySelectorAll('a')].filter((a) => a.href?.baseVal ?? a.href)"
    targets = tab.run(f"{links}.map((a) => String(a.href?.baseVal ?? a.href))")
    assert [url for url in targets if "evil" in url] == []
    text = tab.run("return document.body.innerText")
    drawn = tab.run("return [...document.querySelectorAll('svg')].map((s) => s.textContent).join()")
    for name in HOSTILE:
        assert name in text, name
    for name in (HOSTILE[2], HOSTILE[4]):
        assert name in drawn, name
    assert tab.console() == []
    asked = [url for url in tab.requests() if not url.startswith(("data:", "blob:"))]
    assert asked == [path.as_uri()]
    formula = tab.run("return document.title")
    assert formula.startswith(HOSTILE[0])
