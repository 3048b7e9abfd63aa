"""How the demo model of dca_hub/demo/model was made, and what was measured with it.

`train` makes such a model from plain text, `tune` measures which chunk sizes and temperature suit it, and `table`
measures how surely it finds keys over wordings.
"""
