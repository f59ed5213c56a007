"""Reports as JSON, CSV, tables and pictures; warnings; two runs beside each other."""

import csv
import io
import json
import re

import pytest
from bench_helpers import monitors_report, peers_report, steady

from rocket.bench.picture import draw, idle_axis
from rocket.bench.report import agreement, read, save, to_csv, to_json, warnings
from rocket.bench.table import Table, document, show, tables
from rocket.errors import ConfigError

WIDTH = 79  # of a terminal
REPORTS = {"monitors": monitors_report, "peers": peers_report}


@pytest.fixture(params=REPORTS)
def report(request):
    return REPORTS[request.param]()


def test_report_survives_its_file(report, tmp_path):
    paths = list(save(report, tmp_path / "new" / "folder", "found"))
    assert [path.suffix for path in paths] == [".json", ".csv"]
    assert read(paths[0]) == json.loads(to_json(report)) == report


def test_what_is_not_known_is_null_in_json():
    report = monitors_report()
    report["cells"][0]["p50"] = [float("nan")] * 5
    assert json.loads(to_json(report))["cells"][0]["p50"] == [None] * 5


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "monitors", "format": 1}', '{"kind": "cats"}'])
def test_file_that_is_no_report_is_refused_by_name(text, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"other\.json"):
        read(path)


def test_file_of_another_format_is_refused(tmp_path):
    path = tmp_path / "new.json"
    path.write_text(to_json({**monitors_report(), "format": 99}))
    with pytest.raises(ConfigError, match="format 99"):
        read(path)


def test_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json"):
        read(tmp_path / "none.json")


def test_csv_has_a_line_for_each_cell_with_medians():
    rows = list(csv.DictReader(io.StringIO(to_csv(monitors_report()))))
    assert len(rows) == 5
    assert rows[0]["monitor"] == "epoll"
    assert float(rows[0]["rate_per_s"]) == pytest.approx(50_100)
    assert float(rows[0]["rate_per_s_lowest"]) == pytest.approx(50_000)
    assert rows[2]["calls"] == ""
    assert (rows[3]["memory_bytes"], rows[3]["wake_p50_s"]) == ("900", "0.0001")
    unknown = list(csv.DictReader(io.StringIO(to_csv(peers_report()))))[2]
    assert unknown["p99_s"] == ""


def test_table_marks_what_cannot_be_told_apart_and_says_where_select_ends():
    text = show(monitors_report())
    line = {tuple(row.split()[:3]): row for row in text.splitlines() if len(row.split()) > 3}
    assert "1.00x ~" in line["0", "1", "poll"]
    assert "0.01x " in line["5,000", "1", "poll"]
    assert "~" not in line["5,000", "1", "poll"]
    assert "0.60x" in line["0", "1", "select"]
    assert "ends at 1,024 descriptors" in line["5,000", "1", "select"]
    assert re.search(r"^0 +1 +rate +epoll ~ poll > select$", text, re.MULTILINE)
    assert re.search(r"^5,000 +epoll +100 .* 900$", text, re.MULTILINE)


def test_table_says_what_idle_connections_cost():
    rows = {row[0]: row for table in tables(monitors_report()) if "cost" in table.title for row in table.rows}
    assert rows["epoll"][1:] == ["1", "5,000", "50,100", "50,200", "1.00x ~"]
    assert rows["poll"][5] == "0.01x"
    assert "select" not in rows


def test_table_of_peers_is_in_order_and_names_who_failed():
    table = tables(peers_report())[0]
    assert [row[0] for row in table.rows] == ["rocket", "waitress", "bjoern", "cheroot"]
    assert table.rows[1][3] == "0.10x"
    assert table.rows[3] == ["cheroot", "no answer within 1 s"]
    assert "| cheroot | no answer within 1 s | - |" in table.markdown()


@pytest.mark.parametrize("trouble", [{"failed": ["it ended under load: oh"]}, {"errors": [{"reset": 2}, {}]}], ids=str)
def test_server_that_failed_at_times_is_marked(trouble):
    report = peers_report()
    assert "!" not in show(report)
    report["cells"][1].update(trouble)
    text = show(report)
    assert re.search(r"^waitress ! +6,012", text, re.MULTILINE)
    assert re.search(r"^rocket +60,120", text, re.MULTILINE)
    assert "!: failed in some rounds or requests" in text


def test_what_tls_agreed_on_is_said():
    report = peers_report()
    assert "TLS" not in show(report)
    for cell in report["cells"][:2]:
        cell["tls"] = "TLSv1.3 SOME_CIPHER"
    assert "TLS: TLSv1.3 SOME_CIPHER; one self-signed certificate for all" in show(report)
    report["cells"][1]["tls"] = "TLSv1.2 OTHER"
    assert "TLS: TLSv1.3 SOME_CIPHER (rocket); TLSv1.2 OTHER (waitress);" in show(report)


def test_columns_are_as_wide_as_their_widest_cell():
    text = Table("T", ["name", "n"], [["a", "1"], ["longer", "1,000"]]).plain()
    assert text.splitlines() == ["T", "", "name        n", "------  -----", "a           1", "longer  1,000"]


def test_remark_goes_on_over_the_columns_that_its_row_has_not():
    rows = [["a", "1", "2"], ["long name", "no such thing here"]]
    lines = Table("T", ["name", "n", "m"], rows).plain().splitlines()
    assert lines[2:] == ["name       n  m", "---------  -  -", "a          1  2", "long name  no such thing here"]


def test_narrow_terminal_gets_no_column_that_can_be_done_without_and_is_told(report):
    wide = show(report)
    narrow = show(report, width=WIDTH)
    assert max(map(len, narrow.splitlines())) <= WIDTH < max(map(len, wide.splitlines()))
    assert "(lowest to highest: in a wider terminal, or a file)" in narrow
    assert show(report, width=300) == wide
    for table in tables(report):
        spare = [i for i, name in enumerate(table.head) if name in table.spare]
        assert all(cell in narrow for row in table.rows for i, cell in enumerate(row) if i not in spare)


@pytest.mark.parametrize("width", [76, 68, 60])
def test_narrower_terminal_gets_fewer_columns(report, width):
    text = show(report, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "requests/s" in text
    assert "in a wider terminal, or a file)" in text


def test_document_has_machine_command_and_tables(report):
    text = document(report)
    assert "2 CPUs, Some CPU, 16 GiB" in text
    assert report["command"] in text
    assert "| --: |" in text


def test_picture_is_drawn_and_has_names_and_units(report, tmp_path):
    pytest.importorskip("matplotlib")
    svg, png = draw(report, tmp_path, "found")
    assert png.read_bytes().startswith(b"\x89PNG")
    words = svg.read_text()
    expected = ["epoll", "poll", "select (ends at 1,024 descriptors)", "microseconds", "idle connections"]
    for word in expected if report["kind"] == "monitors" else ["rocket", "waitress", "requests/s", "no answer within"]:
        assert f"<!-- {word}" in words  # matplotlib draws letters as paths, and notes the text beside them
    assert "nan" not in re.findall(r"<!-- (.*?) -->", words)


@pytest.mark.parametrize(
    ("idle", "shown"),
    [
        ((0, 100, 1000, 5000, 10_000), (0, 100, 1000, 5000, 10_000)),
        ((0, 100, 500, 1000, 5000, 10_000), (0, 100, 500, 1000, 5000, 10_000)),
        ((0,), (0,)),
        ((1000, 2000, 3000), (1000, 3000)),
        ((0, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000), (0, 50, 100, 1000, 10_000, 50_000)),
    ],
    ids=str,
)
def test_idle_connections_on_the_axis_can_be_read(idle, shown):
    """As they are drawn: what is shown has its number, and no two numbers overlap."""
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panel = figure.subplots(1, 3)[0]
    idle_axis(panel, idle)
    canvas.draw()
    labels = [label for label in panel.get_xticklabels() if label.get_text()]
    assert {f"{count:,}" for count in shown} <= {label.get_text().strip() for label in labels}
    boxes = [label.get_window_extent() for label in labels if "\n" not in label.get_text()]
    boxes += [_second_line(label.get_window_extent()) for label in labels if "\n" in label.get_text()]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def _second_line(box):
    """Return the lower half: the first line of such a label is empty."""
    from matplotlib.transforms import Bbox

    return Bbox.from_extents(box.x0, box.y0, box.x1, (box.y0 + box.y1) / 2 - 1)


def test_picture_marks_trouble_and_cuts_long_reasons_short(tmp_path):
    pytest.importorskip("matplotlib")
    report = peers_report()
    report["cells"][1]["failed"] = ["it ended under load: oh"]
    report["left_out"][0]["why"] = "no end of words " * 10
    words = re.findall(r"<!-- (.*?) -->", draw(report, tmp_path, "found")[0].read_text())
    assert {"waitress !", "rocket"} <= set(words)
    assert [len(word) <= 60 for word in words if re.fullmatch(r"no end of words.* \.\.\.", word)] == [True]


def test_picture_of_an_interrupted_run_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    report = monitors_report()
    report["cells"], report["servers"] = report["cells"][:1], []
    assert all(path.exists() for path in draw(report, tmp_path, "found"))


# --- Warnings --------------------------------------------------------------------------------------------------------


def test_quiet_run_has_no_warnings():
    assert warnings(monitors_report()) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda report: report.update(ended="interrupted"), "interrupted"),
        (lambda report: report["problems"].append("poll: no answer"), "poll: no answer"),
        (lambda report: [each.update(rate=each["rate"][:3]) for each in report["cells"]], "too few"),
        (lambda report: [each.update(rate=[80, 100, 120, 90, 110]) for each in report["cells"]], "noisy.* 40%"),
        (lambda report: [each.update(other_cpu=[0.5] * 5) for each in report["cells"]], "other programs took 50%"),
        (lambda report: report["cells"][0].update(generator_cpu=[0.99] * 5), "generator was full.*epoll 0 1"),
        (lambda report: report["cells"][0].update(errors=[{"closed": 2}, {"closed": 1}]), "epoll 0 1: 3 closed"),
    ],
)
def test_what_must_be_known_before_believing_is_said(change, word):
    report = monitors_report()
    change(report)
    assert re.search(word, "\n".join(warnings(report)))


# --- Two runs --------------------------------------------------------------------------------------------------------


def test_run_agrees_with_itself():
    found = agreement(monitors_report(), monitors_report())
    assert len(found["alike"]) == 3
    assert found["cannot tell"] == ["0 idle, 1 active: epoll ~ poll"]
    assert not found["contradict"] + found["one cannot tell"]


def test_runs_that_contradict_each_other_are_said_to():
    other = monitors_report()
    other["cells"][4]["rate"] = steady(80_000)
    found = agreement(monitors_report(), other)
    assert found["contradict"] == ["5,000 idle, 1 active: epoll > poll; epoll < poll"]


def test_only_what_both_runs_have_is_compared():
    other = monitors_report()
    del other["cells"][3:]
    assert sum(map(len, agreement(monitors_report(), other).values())) == 3


def test_reports_of_different_kinds_are_not_compared():
    with pytest.raises(ConfigError, match="monitors and one on peers"):
        agreement(monitors_report(), peers_report())
