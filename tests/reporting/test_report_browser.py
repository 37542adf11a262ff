"""The report in a real browser, opened from disk: it works, fetches nothing, and fits a telephone."""

import re
import shutil

import pytest

from deeplight_jax.cli import main

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH"
)
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def address(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", str(runs), "--out", str(out), "--sample", "100"]) == 0
    return out.as_uri()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens the page; at the end, nothing was fetched and nothing went wrong."""
    wrong, fetched, pages = [], [], []

    def open_page(**options):
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(10_000)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert wrong == []
    assert [url for url in fetched if not url.startswith("data:")] == [address] * len(pages)


def column(page, table, heading):
    """Sorting values of a column, top to bottom."""
    return page.evaluate(
        """([table, heading]) => {
          const rows = document.querySelectorAll(`#${table} tbody tr`);
          const heads = [...document.querySelectorAll(`#${table} th`)];
          const at = heads.findIndex((h) => h.textContent === heading);
          return [...rows].map((row) => row.cells[at].dataset.v);
        }""",
        [table, heading],
    )


def test_a_click_on_a_heading_sorts(visit):
    page = visit()
    values = [float(v) for v in column(page, "runs", "ROC AUC")]
    assert len(values) == 3
    heading = page.get_by_role("button", name="ROC AUC", exact=True)
    heading.click()
    assert [float(v) for v in column(page, "runs", "ROC AUC")] == sorted(values, reverse=True)
    heading.click()
    assert [float(v) for v in column(page, "runs", "ROC AUC")] == sorted(values)
    assert page.locator('#runs th[aria-sort="ascending"]').inner_text() == "ROC AUC"
    page.get_by_role("button", name="run", exact=True).click()
    assert column(page, "runs", "run") == ["dense", "pruned/seed-0", "pruned/seed-1"]


def test_a_pair_under_the_pointer_is_told(visit):
    page = visit(viewport={"width": 1280, "height": 900})
    data = page.evaluate('JSON.parse(document.querySelector("#pair-data").textContent)')
    kept = data["runs"][0]["keep"].index("1")
    assert page.locator("#tip").is_hidden()
    page.locator(f'#pairs rect[data-p="{kept}"]').hover()
    tip = page.locator("#tip").inner_text()
    first, second = _names(data["fields"], kept)
    assert tip.startswith(f"{first} × {second}")
    weight = re.search(r"weight (\S+) in (\S+)", tip)
    assert float(weight[1]) == pytest.approx(data["runs"][0]["w"][kept], rel=6e-3)
    assert weight[2] == data["runs"][0]["name"]
    names = [run["name"] for run in data["runs"] if run["keep"][kept] == "1"]
    assert f"kept in {len(names)} of 2 runs: {', '.join(names)}" in tip
    assert ("planted" in tip) == (kept in data["planted"])
    pruned = data["runs"][0]["keep"].index("0")
    page.locator(f'#pairs rect[data-p="{pruned}"]').hover()
    assert "weight pruned in" in page.locator("#tip").inner_text()
    page.mouse.move(2, 2)
    assert page.locator("#tip").is_hidden()


def test_views_and_keys_of_the_map(visit):
    page = visit()
    data = page.evaluate('JSON.parse(document.querySelector("#pair-data").textContent)')

    def painted():
        return page.evaluate(
            '[...document.querySelectorAll("#pairs rect")].map((r) => Number(!!r.style.fill))'
        )

    assert painted() == [int(k) for k in data["runs"][0]["keep"]]
    page.select_option("#pair-view", "1")
    assert painted() == [int(k) for k in data["runs"][1]["keep"]]
    page.select_option("#pair-view", "before")
    assert all(painted())
    page.select_option("#pair-view", "share")
    either = [int("1" in k) for k in zip(*(run["keep"] for run in data["runs"]), strict=True)]
    assert painted() == either
    page.locator("#pairs svg").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#tip").inner_text().startswith(f"{data['fields'][0]} × {data['fields'][2]}")
    last = len(data["runs"][0]["w"]) - 1
    page.locator(f'#pairs rect[data-p="{last}"]').hover()
    assert data["fields"][-1] in page.locator("#tip").inner_text()  # <script> as text
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_needs_no_sideways_scrolling(visit, scheme):
    page = visit(viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    page.get_by_text("every config key of").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("visualViewport.scale") == 1
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (_light(ink) > _light(paper)) == (scheme == "dark")
    text = page.locator("#figure-schedule svg text").first
    assert text.evaluate("(t) => getComputedStyle(t).fill") == ink
    assert text.evaluate("(t) => t.getBoundingClientRect().height") >= 9  # readable
    page.locator('#pairs rect[data-p="0"]').tap()
    box = page.locator("#tip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]


def _names(fields, pair):
    pairs = [(a, b) for i, a in enumerate(fields) for b in fields[i + 1 :]]
    return pairs[pair]


def _light(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3]))
