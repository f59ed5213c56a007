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
