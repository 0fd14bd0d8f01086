"""Passwords are masked in every spelling of a storage URL, and cells are no formulas."""

import pytest

from isotune.simulator.io import masked, plain_cell, printable, secrets_in

URLS = [
    "postgresql://user:S3CRET@host/db",
    "postgres://user:S3CRET@host:5432/db",
    "postgresql+psycopg://user:S3CRET@host/db",
    "mysql://user:S3CRET@host",
    "postgresql://:S3CRET@host/db",
    "postgresql://user:S3/CR:ET@host/db",
    "postgresql://user:S3@CRET@host/db",
    "postgresql://user:S3%43RET@host/db",
    "postgresql://user@host/db?password=S3CRET",
    "postgresql://user@host/db?sslmode=require&password=S3CRET&x=y",
    "postgresql://user@host/db?pass%77ord=S3CRET",
    "postgresql://user@/db?host=/tmp&sslpassword=S3CRET",
    "postgresql://host/db?PASSWORD=S3CRET",
    "host=/tmp dbname=x password=S3CRET",
    "--storage=postgresql://user:S3CRET@host/db",
    "see postgresql://user:S3CRET@host/db and postgresql://a:S3CRET@b/c",
]


@pytest.mark.parametrize("url", URLS)
def test_a_password_is_masked(url):
    text = masked(url)
    for part in ("S3", "CRET", "43RET"):
        assert part not in text
    assert "***" in text
    secrets = secrets_in(url)
    assert not any(one in masked(f"login with {one} failed", secrets) for one in secrets)


def test_a_decoded_password_in_another_text_is_masked():
    secrets = secrets_in("postgresql://user:S3%43RET@host/db?password=A%2FB")
    assert masked("login with S3CRET or A/B failed", secrets) == "login with *** or *** failed"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user@host/db",
        "sqlite:////tmp/study.db",
        "journal:///x.log",
        "see https://example.org:80/a",
        "postgresql://user@host/db?passfile=/home/me/.pgpass&host=/tmp",
    ],
)
def test_what_is_no_password_stays(url):
    assert masked(url) == url


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "=HYPERLINK(1)\nx", "=\tx"])
def test_a_cell_is_no_formula_and_one_line(text):
    cell = plain_cell(text)
    assert cell.startswith("'")
    assert cell.isprintable()


@pytest.mark.parametrize("cell", ["-0.25", "+1e5", "a=b", "", 3, -0.5, None])
def test_other_cells_stay_as_they_are(cell):
    assert plain_cell(cell) == cell


def test_a_printable_text_is_one_line_without_control():
    assert printable("a\x1b[31m\nb\u2028\u202e\ud800") == "a\ufffd[31m\ufffdb\ufffd\ufffd\ufffd"
