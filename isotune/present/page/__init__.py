"""Results as one self-contained page: no network, opens from disk, safe whatever files say."""

from isotune.present.page.html_page import Page, make_report

__all__ = ["Page", "make_report"]
