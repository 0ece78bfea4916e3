"""A report as a browser shows it: no script error, nothing fetched, no sideways scrolling on a phone, and it prints."""

import re
import shutil
import subprocess
from html import escape

import pytest

from llmrec_spark.reports import render_report
from tests.reported_day import examples, nothing_known, reported_day

CHROMIUM = shutil.which("chromium")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"),
)
MEASURE = """<script>
const phone = document.getElementById("phone");
const measure = () => {
  const page = phone.contentDocument.documentElement;
  const fetched = phone.contentWindow.performance.getEntriesByType("resource").length;
  document.title = "measured " + page.scrollWidth + " of " + page.clientWidth + ", fetched " + fetched;
};
window.addEventListener("load", () => setTimeout(measure, 200));
</script>"""  # from outside: the page itself lets no script run

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium; make browser tries it)"
)


def browse(folder, page, *options):
    """What Chromium did with the page: its output and its console."""
    (folder / "report.html").write_text(page, encoding="utf-8")
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={folder / 'profile'}", *options, f"file://{folder}/report.html"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.parametrize(
    "day", [reported_day(), reported_day(examples=examples()), nothing_known()], ids=["day", "examples", "nothing"]
)
def test_a_report_fits_a_phone_fetches_nothing_and_has_no_script_error(day, tmp_path):
    phone = escape(render_report(day))
    # a window of Chromium is at least 500 pixels wide: the page is measured in a frame of a phone's width
    frame = f'<iframe id="phone" srcdoc="{phone}" width="360" height="800"></iframe>' + MEASURE
    done = browse(tmp_path, frame, "--virtual-time-budget=5000", "--dump-dom")
    assert re.search(r"<title>measured (\d+) of \1, fetched 0</title>", done.stdout), done.stdout[:300]
    assert "CONSOLE" not in done.stderr, done.stderr


def test_a_report_prints(tmp_path):
    browse(tmp_path, render_report(reported_day()), f"--print-to-pdf={tmp_path / 'report.pdf'}")
    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000
