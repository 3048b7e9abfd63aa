"""What a run can compare with the DCA model, by the name that `--compare` takes; without torch, for the parsers."""

ABLATIONS = {"intra": "intra only", "intra+inter": "intra + inter"}
SPARSE = {f"sparse-{share}": share for share in (0.8, 0.9, 0.95)}
SCALINGS = {"linear": "linear", "ntk": "NTK", "yarn": "YaRN"}
# Each with its title in tables and pictures.
COMPARED = {
    "plain": "plain",
    "no-temperature": "DCA, no temperature",
    **{name: f"DCA, {title}" for name, title in ABLATIONS.items()},
    **{name: f"DCA, sparse {share}" for name, share in SPARSE.items()},
    **SCALINGS,
    **{f"dca+{name}": f"DCA + {title}" for name, title in SCALINGS.items()},
}
USUAL_FACTOR = 2.0  # how far a scaling beside DCA stretches
