"""Pages as headless Chromium shows them."""

import re
import shutil
import subprocess

import pytest
from e2e_server import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


@pytest.fixture
def browse(tmp_path):
    """Open a page; return its document once its scripts have run."""
    profiles = iter(range(100))

    def open_page(url):
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        flags += [f"--user-data-dir={tmp_path / f'profile{next(profiles)}'}", "--virtual-time-budget=3000"]
        done = subprocess.run(
            [CHROMIUM, *flags, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout

    return open_page


def test_the_demo_page_shows_the_pool_live(serve, browse):
    page = browse(serve("--threads", "2:9").url)
    assert "<h1>Rocket is running</h1>" in page
    tiles = dict(re.findall(r"<dt>([^<]*)</dt><dd[^>]*>([^<]*)</dd>", page))
    assert tiles["max threads"] == "9"
    assert int(tiles["threads"]) >= 2
    assert int(tiles["turns"]) >= 1
    assert 'id="state" class="quiet" role="status"></span>' in page  # no complaint
    assert re.search(r"HTTP_USER_AGENT</th><td>[^<]*Chrome", page)


def test_a_flask_page_and_its_form(serve, browse, tmp_path):
    pytest.importorskip("flask")
    server = serve("flask_app", app_dir=ROOT / "examples")
    page = browse(server.url)
    assert "<h1>Flask on Rocket</h1>" in page
    form = re.search(r'<form method="post" action="/form">.*?</form>', page, re.DOTALL)[0]
    filled = form.replace('name="name"', 'name="name" value="Jos\u00e9 &lt;3"').replace(
        "/form", server.url + "/form", 1
    )
    sender = tmp_path / "sender.html"
    sender.write_text(f"<meta charset=utf-8>{filled}<script>document.forms[0].submit()</script>", encoding="utf-8")
    assert '<p id="result">Hello, Jos\u00e9 &lt;3!</p>' in browse(sender.as_uri())


def test_a_page_from_files_runs_its_script_and_uses_its_style(serve, browse, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text(
        '<!DOCTYPE html><link rel="stylesheet" href="style.css"><p id="p">no</p><script src="caf\u00e9.js"></script>',
        encoding="utf-8",
    )
    (site / "style.css").write_text("#p { width: 123px }")
    # With nosniff a browser runs and applies only what has the right type.
    (site / "caf\u00e9.js").write_text(
        "onload = () => { p.textContent = '\u00e9 ' + getComputedStyle(p).width }",
        encoding="utf-8",
    )
    assert '<p id="p">\u00e9 123px</p>' in browse(serve(files=site).url)


def test_names_in_a_listing_do_nothing_but_be_shown(serve, browse, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    names = [
        "<script>document.title = 'run'<",
        "<img src=x onerror=document.title='run'>",
        "javascript:document.title='run'",
    ]
    for name in [*names, "plain name.txt", "\u00e9"]:
        (site / name.replace("/", "")).write_text("x")
    page = browse(serve("--listing", files=site).url)
    assert "<title>/</title>" in page
    assert ">plain name.txt</a>" in page
    assert ">\u00e9</a>" in page
    assert page.count("<a href=") == 5
    assert "<img" not in page
    assert "<script" not in page
