"""Links that hold the settings of a needle test: what is written can be read, and whatever else comes is bounded."""

from types import SimpleNamespace

import pytest

from dca_hub.errors import DcaHubError
from dca_hub.evaluation.grid import Grid, spread
from dca_hub.space import needle_link
from dca_hub.space.needle_link import Linked

HOST = SimpleNamespace(fits=lambda: 10**6, loaded=SimpleNamespace(trained=512))


def test_a_link_holds_the_settings():
    grid = Grid((2048, 512), spread(3), 2, "pdf-1a2b3c4d")
    link = needle_link.query(grid, "both", "demo & co")
    assert link == "?tab=needle&lengths=512,2048&depths=3&trials=2&haystack=pdf&mode=both&model=demo+%26+co"
    assert needle_link.read(link, HOST) == Linked((512, 2048), 3, 2, "pdf", "both", "demo & co")


@pytest.mark.parametrize("address", ["", "?tab=chat", "?tab=needle", "?" + "&" * 3000, "?tab=chat&lengths=512", None])
def test_other_addresses_ask_for_nothing(address):
    assert needle_link.read(address, HOST) is None


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("lengths=999999999", "from 128 to 16,384"),
        ("lengths=1e9", "whole numbers"),
        ("lengths=" + "9" * 5000, "whole numbers"),
        ("lengths=512&depths=30000000", "depths must be a whole number from 1 to 50"),
        ("lengths=512&trials=nan", "trials must be a whole number from 1 to 20"),
        ("lengths=512&haystack=/etc/passwd", "names an unknown haystack"),
        ("lengths=512&mode=<b>", "names an unknown haystack or attention"),
    ],
)
def test_a_link_that_asks_for_too_much_is_refused_in_words(asked, words):
    with pytest.raises(DcaHubError, match=words):
        needle_link.read(f"?tab=needle&{asked}", HOST)
