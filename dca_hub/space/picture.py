"""The relative positions that attention sees, as data for the page: every distance comes from the model's geometry."""

import json
from typing import Any

from dca_hub.errors import DcaHubError
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry, Relation
from dca_hub.space.markup import tag

LONGEST = 96
_LETTERS = {Relation.INTRA: "a", Relation.SUCCESSIVE: "s", Relation.INTER: "i"}
LEGEND = (
    ("intra", "same chunk", "exact distances, as in the plain model"),
    ("successive", "the chunk before", "exact for the nearest w tokens, then held at C"),
    ("inter", "further back", "seen from C, whatever lies between"),
    ("unseen", "never trained", "a distance of L or more: most plain models are lost here"),
)


def geometry(trained: int, chunk: int, local: int) -> DualChunkGeometry:
    """Raises DcaHubError, in the letters of the sliders, for sizes that describe none."""
    trained, chunk, local = int(trained), int(chunk), int(local)
    if chunk > trained:
        raise DcaHubError(f"C ({chunk}) must not exceed L ({trained}), the trained length: lower C or raise L.")
    if local >= chunk:
        raise DcaHubError(f"w ({local}) must be smaller than C ({chunk}), or no chunk is left: lower w or raise C.")
    try:
        return DualChunkGeometry(chunk, local, trained)
    except ValueError as error:
        raise DcaHubError(str(error)) from None


def data(sizes: DualChunkGeometry, length: int) -> dict[str, Any]:
    """Row i, column j: at which distance query i sees key j, and a letter for the relation (a intra, s successive,
    i inter). The plain model is the same geometry with one chunk for everything."""
    plain = DualChunkGeometry(length, 0, length)
    return {
        "length": length,
        "trained": sizes.pretraining_length,
        "chunk": sizes.chunk_length,
        "farthest": {"plain": length - 1, "dca": sizes.chunk_size},
        "plain": _rows(plain, length),
        "dca": _rows(sizes, length),
    }


def _rows(sizes: DualChunkGeometry, length: int) -> dict[str, list]:
    return {
        "distance": [[sizes.distance(i, j) for j in range(i + 1)] for i in range(length)],
        "relation": ["".join(_LETTERS[sizes.relation(i, j)] for j in range(i + 1)) for i in range(length)],
    }


def picture(sizes: DualChunkGeometry, length: int) -> str:
    """Two drawings, plain and DCA, that script.js fills in from the data, with a line that says what is pointed at."""
    shown = json.dumps(data(sizes, length), separators=(",", ":"))
    panels = [_panel("plain", "Plain attention"), _panel("dca", "Dual Chunk Attention")]
    keys = [
        tag(
            "li",
            tag("span", class_=f"dh-swatch dh-{name}"),
            tag("span", tag("strong", head), " ", words),
        )
        for name, head, words in LEGEND
    ]
    return tag(
        "div",
        tag("div", *panels, class_="dh-panels"),
        tag("p", _summary(sizes, length), class_="dh-summary"),
        tag("ul", *keys, class_="dh-legend"),
        class_="dh-picture",
        data_picture=shown,
    )


def _panel(name: str, title: str) -> str:
    label = f"{title}: queries down, keys across. Move with the arrow keys."
    canvas = tag("canvas", class_="dh-canvas", data_side=name, tabindex="0", role="img", aria_label=label)
    says = tag("div", "Point at a cell", class_="dh-says", data_says=name, aria_live="polite")
    return tag("figure", tag("figcaption", tag("strong", title)), canvas, says, class_="dh-panel")


def _summary(sizes: DualChunkGeometry, length: int) -> str:
    unseen = sum(max(0, i + 1 - sizes.pretraining_length) for i in range(length))
    pairs = length * (length + 1) // 2
    share = f"{100 * unseen / pairs:.0f} % of its pairs" if unseen else "none of its pairs"
    return (
        f"Chunks of s = C − w = {sizes.chunk_length} tokens. Over {length} tokens the plain model sees distances up to "
        f"{length - 1}, {share} at a distance it never met in training (L = {sizes.pretraining_length}). "
        f"DCA never goes beyond C = {sizes.chunk_size}."
    )
